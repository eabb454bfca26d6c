"""pandas frames and series <-> Arrow columns and a description of everything else that pandas knows of them."""

from __future__ import annotations

import io
from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_pipes.content.codec import Declined
from mlflow_pipes.content.codecs.plain import decode_plain, encode_plain
from mlflow_pipes.content.codecs.table import columns, stream
from mlflow_pipes.content.codecs.table.columns import Memory

METADATA_KEY = b"mlflow_pipes.pandas/1"


class Taken:
    """A frame taken apart: Arrow columns, their names for other readers, and pandas' view of them."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []
        self.names: list[str] = []
        self.described: list[dict[str, Any]] = []

    def add(self, name: str, values: Any) -> None:
        """Take one more column."""
        array, described = columns.encode(values)
        self.arrays.append(array)
        self.names.append(name)
        self.described.append(described)

    def schema(self, metadata: dict[bytes, bytes]) -> pa.Schema:
        """Return the schema of all columns."""
        fields = [pa.field(name, array.type) for name, array in zip(self.names, self.arrays, strict=True)]
        return pa.schema(fields, metadata=metadata)

    def batches(self, rows: int) -> Any:
        """Return the canonical record batches, as lists of arrays."""
        return stream.batches(
            self.arrays, lambda number, array: columns.canonical_column(array, self.described[number]), rows
        )


def encode(frame: pd.DataFrame | pd.Series) -> Any:
    """Return the pieces of a frame's or series' blob. Raises what :func:`take` raises."""
    taken, description = take(frame)
    return stream.pieces(taken.schema({METADATA_KEY: encode_plain(description)}), taken.batches(len(frame)))


def take(frame: pd.DataFrame | pd.Series) -> tuple[Taken, dict[str, Any]]:
    """Return a frame or series taken apart, and plain data that says what pandas knows of it besides.

    Raises:
        Declined: something in it does not fit Arrow without loss.
    """
    if not frame.flags.allows_duplicate_labels:
        raise Declined("the flag allows_duplicate_labels")
    taken = Taken()
    description: dict[str, Any] = {}
    if isinstance(frame, pd.DataFrame):
        for position, label in enumerate(frame.columns):
            taken.add(str(label), frame.iloc[:, position].array)
        description["columns"] = _describe_labels(frame.columns)
    else:
        taken.add("0" if frame.name is None else str(frame.name), frame.array)
        description["name"] = frame.name
    description["count"] = len(taken.arrays)
    description["index"] = _take_index(frame.index, taken, "__index_level_{}__")
    description["dtypes"] = taken.described
    if frame.attrs:
        description["attrs"] = frame.attrs
    return taken, description


def decode(view: memoryview) -> pd.DataFrame | pd.Series:
    """Return the frame or series of a blob; numeric columns are views of it."""
    table = stream.read(view)
    description = decode_plain(table.schema.metadata[METADATA_KEY])
    memory = Memory(view)
    arrays = [
        columns.decode(column, described, memory)
        for column, described in zip(table.columns, description["dtypes"], strict=True)
    ]
    count = description["count"]
    index = _give_index(description["index"], arrays[count:])
    if "columns" in description:
        frame = pd.DataFrame(
            {n: _held(array, index) for n, array in enumerate(arrays[:count])}, index=index, copy=False
        )
        frame.columns = _give_labels(description["columns"])
    else:
        frame = pd.Series(_held(arrays[0], index), index=index, name=description["name"], copy=False)  # type: ignore[assignment]
    frame.attrs = description.get("attrs", {})
    return frame


def _held(array: Any, index: pd.Index) -> Any:
    """Return what pandas takes as it is: text in an object array it would take for dtype str."""
    if type(array) is pd.arrays.NumpyExtensionArray:
        return pd.Series(array, index=index, dtype=object, copy=False)
    return array


def arrow_table(view: memoryview) -> pa.Table:
    """Return the Arrow table of a pandas blob, as ``pyarrow.Table.from_pandas`` gives it.

    NaN is null there, and an index that is not a plain range is a column.
    """
    table = stream.read(view)
    description = decode_plain(table.schema.metadata[METADATA_KEY])
    fields, arrays = [], []
    for field, column, described in zip(table.schema, table.columns, description["dtypes"], strict=True):
        if described["kind"] == "numpy" and pa.types.is_floating(field.type):
            missing = pc.is_nan(column)
            if pc.any(missing).as_py():
                column = pc.if_else(missing, pa.scalar(None, field.type), column)  # noqa: PLW2901
        fields.append(field)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _take_index(index: pd.Index, taken: Taken, fallback: str) -> dict[str, Any]:
    """Add an index's values as columns where they are more than a range; return its description."""
    if isinstance(index, pd.RangeIndex) and type(index) is pd.RangeIndex:
        return {"kind": "range", "range": [index.start, index.stop, index.step], "name": index.name}
    if isinstance(index, pd.MultiIndex):
        for level in range(index.nlevels):
            name = index.names[level]
            taken.add(fallback.format(level) if name is None else str(name), index.get_level_values(level).array)
        return {"kind": "multi", "names": list(index.names)}
    taken.add(fallback.format(0) if index.name is None else str(index.name), index.array)
    frequency = getattr(index, "freqstr", None)
    return {"kind": "flat", "name": index.name, **({"freq": frequency} if frequency else {})}


def _give_index(described: dict[str, Any], arrays: list[Any]) -> Any:
    if described["kind"] == "range":
        start, stop, step = described["range"]
        return pd.RangeIndex(start, stop, step, name=described["name"])
    if described["kind"] == "multi":
        return pd.MultiIndex.from_arrays([columns.index(array, None) for array in arrays], names=described["names"])
    index = columns.index(arrays[0], described["name"])
    if "freq" in described:
        index.freq = pd.tseries.frequencies.to_offset(described["freq"])
    return index


def _describe_labels(labels: pd.Index) -> dict[str, Any]:
    """Return column labels as plain data: most are texts; others are a small Arrow stream of their own."""
    name = labels.name
    if type(labels) is pd.Index and isinstance(labels.dtype, np.dtype) and labels.dtype.kind == "O":
        return {"kind": "objects", "labels": labels.tolist(), "name": name}
    if isinstance(labels.dtype, pd.StringDtype) and labels.dtype == pd.Index(["a"]).dtype:
        return {"kind": "texts", "labels": labels.tolist(), "name": name}
    taken = Taken()
    index = _take_index(labels, taken, "{}")
    if not taken.arrays:
        return {"kind": "index", "index": index}
    blob = b"".join(stream.pieces(taken.schema({}), taken.batches(len(labels))))
    return {"kind": "index", "index": index, "dtypes": taken.described, "stream": b64encode(blob).decode("ascii")}


def _give_labels(described: dict[str, Any]) -> Any:
    if described["kind"] == "objects":
        return pd.Index(described["labels"], dtype=object, name=described["name"], tupleize_cols=False)
    if described["kind"] == "texts":
        dtype = pd.Index(["a"]).dtype
        return pd.Index(described["labels"], dtype=dtype, name=described["name"])
    if "stream" not in described:
        return _give_index(described["index"], [])
    view = memoryview(io.BytesIO(b64decode(described["stream"])).getvalue())
    memory = Memory(view)
    arrays = [
        columns.decode(column, one, memory)
        for column, one in zip(stream.read(view).columns, described["dtypes"], strict=True)
    ]
    return _give_index(described["index"], arrays)
