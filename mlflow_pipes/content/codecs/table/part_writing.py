"""One part of a table, written where its rows are: by a worker of Dask, an executor of Spark, or a thread here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlflow_pipes.content.codec import Declined
from mlflow_pipes.content.codecs.plain import encode_plain
from mlflow_pipes.content.codecs.table import stream
from mlflow_pipes.content.codecs.table.bag import bag_of
from mlflow_pipes.content.codecs.table.canonical import canonical
from mlflow_pipes.content.codecs.table.layout import Written
from mlflow_pipes.content.codecs.table.logical import logical_schema
from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import UnstorableOutputError

if TYPE_CHECKING:
    import pandas as pd

    from mlflow_pipes.ports import Datastore


def write_frame(frame: pd.DataFrame, datastore: Datastore, where: str) -> Written:
    """Store a pandas frame as a part.

    Raises:
        UnstorableOutputError: a column holds what Arrow cannot; names *where*.
    """
    from mlflow_pipes.content.codecs.table import columns, frames

    frame = _without_layout(frame)
    try:
        taken, description = frames.take(frame)
        schema = taken.schema({frames.METADATA_KEY: encode_plain(description)})
        bag = bag_of(taken.arrays, len(frame))
        logical = logical_schema(schema, _described(description, taken))
        blob = datastore.put(stream.pieces(schema, taken.batches(len(frame))))
    except Declined as error:
        raise UnstorableOutputError(
            f"{where}: a table in parts holds what Arrow can; found was {error}. Convert the column, such as with "
            f".astype(str), or return a pandas.DataFrame"
        ) from error
    if description["index"]["kind"] == "range":
        description["index"]["range"] = [0, 0, 1]
    of_none = taken.schema({frames.METADATA_KEY: encode_plain(description)})
    without_rows = [array.slice(0, 0) for array in taken.arrays]
    nothing = [columns.canonical_column(*pair) for pair in zip(without_rows, taken.described, strict=True)]
    return Written(
        str(blob),
        bag.rows,
        bag.total.to_bytes(32, "little"),
        logical,
        tuple(zip(taken.names, [str(array.type) for array in taken.arrays], strict=True)),
        b"".join(stream.pieces(of_none, iter([nothing]))),
    )


def write_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, datastore: Datastore, where: str) -> Written:
    """Store Arrow batches, all of one schema, as a part. Raises as :func:`write_frame`."""
    table = pa.Table.from_batches(batches, schema)
    try:
        bag = bag_of(table.columns, table.num_rows)
    except Declined as error:
        raise UnstorableOutputError(f"{where}: {error}") from error
    arrays = (list(batch.columns) for batch in table.to_batches())
    return Written(
        str(datastore.put(stream.pieces(schema, arrays))),
        bag.rows,
        bag.total.to_bytes(32, "little"),
        logical_schema(schema),
        tuple((field.name, str(field.type)) for field in schema),
        b"".join(stream.pieces(schema, iter(()))),
    )


def is_numbering(index: pd.Index) -> bool:
    """Whether an index only numbers rows, as pandas does by itself: integers without a name."""
    return index.nlevels == 1 and index.name is None and isinstance(index.dtype, np.dtype) and index.dtype.kind in "iu"


def _without_layout(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame without what depends on where it was divided: numbering of rows, ranges, frequencies."""
    import pandas as pd

    index = frame.index
    if is_numbering(index):
        index = pd.RangeIndex(len(frame))
    elif type(index) is pd.RangeIndex:
        index = pd.Index(np.asarray(index), name=index.name)
    elif getattr(index, "freq", None) is not None:
        index = index.copy()
        index.freq = None  # type: ignore[attr-defined]
    found = frame.copy(deep=False)
    found.index = index
    found.attrs = {}
    return found


def _described(description: dict[str, Any], taken: Any) -> bytes:
    """Return what pandas knows besides names and Arrow types, the same for all parts of a table."""
    index = {key: value for key, value in description["index"].items() if key != "range"}
    categories = [
        _content(array.dictionary)
        for array, described in zip(taken.arrays, taken.described, strict=True)
        if described["kind"] == "categorical"
    ]
    return encode_plain({**description, "index": index, "categories": categories})


def _content(values: pa.Array) -> str:
    """Return the digest of an array's values, in order."""
    schema = pa.schema([("", values.type)])
    return digest_bytes(b"".join(stream.pieces(schema, iter([[canonical(values)]])))).hash
