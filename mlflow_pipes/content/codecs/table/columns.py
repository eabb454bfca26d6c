"""pandas columns <-> Arrow arrays, exactly: the dtype and every value come back.

A column's *description* is plain data that stands in the table's metadata. NumPy columns are taken where they lie and,
read back, are views of the blob: privately mapped memory, so a program may write to them.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_pipes.content.codec import Declined
from mlflow_pipes.content.codecs.table.canonical import canonical, keep_dictionary

# Object columns that hold one kind of thing and one kind of nothing; others are pickled.
_OBJECTS: dict[type, Any] = {str: pa.large_string(), bytes: pa.large_binary(), date: pa.date32()}
_MASKED = frozenset(
    {"boolean", "Float32", "Float64", *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
)


class Memory:
    """The memory that a table was read from; gives NumPy arrays on it that may be written to."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._address = pa.py_buffer(view).address if view.nbytes else 0

    def array(self, buffer: pa.Buffer, dtype: Any, count: int) -> Any:
        """Return *count* items of a buffer that lies in this memory."""
        if self._view.readonly or not count:
            return np.frombuffer(buffer, dtype, count).copy()
        return np.frombuffer(self._view, dtype, count, buffer.address - self._address)


def encode(values: Any) -> tuple[Any, dict[str, Any]]:
    """Return the Arrow array or chunked array of a pandas array, and its description.

    Raises:
        Declined: Arrow cannot hold it without losing something.
    """
    if type(values) is pd.arrays.NumpyExtensionArray:
        values = values.to_numpy()
    dtype = values.dtype
    try:
        if isinstance(dtype, np.dtype):
            return _encode_numpy(np.asarray(values), dtype)
        if isinstance(dtype, pd.StringDtype):
            missing = "NA" if dtype.na_value is pd.NA else "nan"
            return pa.array(values), {"kind": "string", "storage": dtype.storage, "missing": missing}
        if isinstance(dtype, pd.CategoricalDtype):
            return _encode_categorical(values, dtype)
        if isinstance(dtype, pd.DatetimeTZDtype):
            return _encode_zoned(values, dtype)
        if isinstance(dtype, pd.ArrowDtype):
            return pa.array(values), {"kind": "arrow"}
        if str(dtype) in _MASKED:
            return pa.array(values), {"kind": "masked", "dtype": str(dtype)}
    except (pa.ArrowException, TypeError, ValueError, OverflowError, UnicodeError) as error:
        raise Declined(f"a column of dtype {dtype} does not fit Arrow: {error}") from error
    raise Declined(f"a column of dtype {dtype} has no Arrow type here")


def _encode_numpy(values: Any, dtype: np.dtype[Any]) -> tuple[Any, dict[str, Any]]:
    if dtype.kind == "O":
        return _encode_objects(values)
    if dtype.kind not in "biufmM" or dtype.itemsize > 8:
        raise Declined(f"a column of dtype {dtype} has no Arrow type")
    native = dtype.newbyteorder("=")
    if native != dtype:
        values, dtype = values.astype(native), native
    # from_pandas=False keeps NaN what it is: nothing is copied, and a NaN is not a null.
    return pa.array(values, from_pandas=False), {"kind": "numpy", "dtype": dtype.str.lstrip("<|=")}


def _encode_objects(values: Any) -> tuple[Any, dict[str, Any]]:
    types = set(map(type, values))
    missing = "None"
    if float in types:
        if type(None) in types or any(type(value) is float and value == value for value in values):  # noqa: PLR0124
            raise Declined("an object column of floats")
        missing = "nan"
    held = types - {float, type(None)}
    kind = held.pop() if held else str
    if held or kind not in _OBJECTS:
        raise Declined("an object column of mixed or unknown types")
    return pa.array(values, _OBJECTS[kind], from_pandas=True), {
        "kind": "object",
        "of": kind.__name__,
        "missing": missing,
    }


def _encode_zoned(values: Any, dtype: pd.DatetimeTZDtype) -> tuple[Any, dict[str, Any]]:
    zone = str(dtype.tz)
    if str(pd.DatetimeTZDtype(dtype.unit, zone).tz) != zone:
        raise Declined(f"time zone {dtype.tz!r} has no name")
    moments = pa.array(np.asarray(values.tz_convert("UTC").tz_localize(None)), from_pandas=False)
    zoned = moments.view(pa.timestamp(dtype.unit, pa.lib.tzinfo_to_string(dtype.tz)))
    return zoned, {"kind": "zoned", "unit": dtype.unit, "zone": zone}


def _encode_categorical(values: Any, dtype: pd.CategoricalDtype) -> tuple[Any, dict[str, Any]]:
    categories, described = encode(dtype.categories.array)
    codes = values.codes
    indices = pa.array(codes, mask=codes < 0)
    found = pa.DictionaryArray.from_arrays(indices, canonical(categories), ordered=bool(dtype.ordered))
    return found, {"kind": "categorical", "categories": described}


def canonical_column(array: Any, described: dict[str, Any]) -> pa.Array:
    """Return a column's canonical array; the categories of a categorical are part of its value."""
    if described["kind"] != "categorical":
        return canonical(array)
    return keep_dictionary(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)


def decode(column: pa.ChunkedArray, described: dict[str, Any], memory: Memory) -> Any:  # noqa: PLR0911 - one a kind
    """Return the pandas array or NumPy array of a column."""
    match described["kind"]:
        case "numpy":
            return _decode_numpy(column, np.dtype(described["dtype"]), memory)
        case "string":
            missing = np.nan if described["missing"] == "nan" else pd.NA
            text: Any = pd.StringDtype(described["storage"], na_value=missing)
            return text.__from_arrow__(column)
        case "categorical":
            return _decode_categorical(column, described["categories"])
        case "zoned":
            dtype = pd.DatetimeTZDtype(described["unit"], described["zone"])
            moments: Any = pd.array(_decode_numpy(column, np.dtype(f"M8[{described['unit']}]"), memory), copy=False)
            return moments.tz_localize("UTC").tz_convert(dtype.tz)
        case "arrow":
            return pd.arrays.ArrowExtensionArray(column)
        case "masked":
            masked: Any = pd.api.types.pandas_dtype(described["dtype"])
            return masked.__from_arrow__(column)
        case _:
            return _decode_objects(column, described["missing"])


def _decode_numpy(column: pa.ChunkedArray, dtype: np.dtype[Any], memory: Memory) -> Any:
    if dtype.kind == "b":
        return np.asarray(column.to_numpy()).astype(bool) if len(column) else np.empty(0, bool)
    parts = []
    for chunk in column.chunks:
        part = memory.array(chunk.buffers()[1], dtype, len(chunk))
        if chunk.null_count:  # moments only: NaN is no null here
            part[np.asarray(pc.is_null(chunk))] = np.array("NaT", dtype)
        parts.append(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, dtype)


def _decode_categorical(column: pa.ChunkedArray, described: dict[str, Any]) -> Any:
    column = column.unify_dictionaries()
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = pa.chunked_array([array.dictionary])
    categories = index(decode(values, described, Memory(memoryview(b""))), None)
    codes = np.array(pc.fill_null(array.indices, -1))  # a copy that may be written to
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, array.type.ordered))


def _decode_objects(column: pa.ChunkedArray, missing: str) -> Any:
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    if missing == "nan":
        values[np.asarray(pc.is_null(column))] = np.nan
    return pd.arrays.NumpyExtensionArray(values)  # a bare array of text would be taken for dtype str


def index(values: Any, name: Any) -> Any:
    """Return a pandas index of exactly these values and their dtype."""
    dtype = object if type(values) is pd.arrays.NumpyExtensionArray else values.dtype
    return pd.Index(values, dtype=dtype, name=name, copy=False)
