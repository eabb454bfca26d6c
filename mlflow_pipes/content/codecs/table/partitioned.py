"""Tables that were made in parts, by Dask or Spark, and are given whole or in parts to whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import Encoded, Stored, Storing, by_size
from mlflow_pipes.content.codecs.table import as_frame, convert, kind_of, target_of
from mlflow_pipes.content.codecs.table.layout import decode_layout, differing, encode_layout, statement_of
from mlflow_pipes.content.codecs.table.part_reading import as_arrow
from mlflow_pipes.errors import BlobMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.content.codecs.table.layout import Layout, Written
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.artifact import Leaf
    from mlflow_pipes.ports import Datastore

_LAZY = {
    ("dask", "Series"): "can be stored as a table only: return series.to_frame()",
    ("dask", "Index"): "can be stored as a table only: return index.to_frame()",
    ("dask", "Scalar"): "is not computed: return scalar.compute()",
    ("dask", "Bag"): "has no columns: return bag.to_dataframe(), or bag.compute()",
    ("dask", "Delayed"): "is not computed: return delayed.compute()",
    ("pyspark", "GroupedData"): "is no table: aggregate it, such as by .count()",
}


class PartitionedCodec:
    """Codec ``partitioned``. The form is the class and the shape, such as ``dask.DataFrame 336776x19``.

    The root tells which rows the table has; the layout, where they lie.
    """

    name = "partitioned"

    def accepts(self, value: Any) -> bool:
        """Whether it is a data frame of Dask's or Spark's, or something lazy that should have been one."""
        kind = kind_of(value)
        return kind in {("dask", "DataFrame"), ("pyspark", "DataFrame")} or kind in _LAZY

    def encode(self, value: Any, storing: Storing) -> Encoded:
        """Have it computed and its parts stored by who computes them."""
        kind = kind_of(value)
        if kind in _LAZY:
            storing.refuse(f"a {'.'.join(kind)} {_LAZY[kind]}")
        divisions = b""
        if kind[0] == "dask":
            from mlflow_pipes.content.codecs.table import dask_frames

            written, divisions = dask_frames.write(value, storing)
        else:
            from mlflow_pipes.content.codecs.table import spark_frames

            written = spark_frames.write(value, storing)
        return _encoded(".".join(kind), written, divisions, storing)

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the table as the class that is wanted, else as the class that was stored."""
        package, name = stored.leaf.form.partition(" ")[0].split(".")
        target = target_of(wanted, (package, name))
        layout = decode_layout(stored.layout())
        _demand(layout, stored.datastore)
        match target[0]:
            case "dask":
                from mlflow_pipes.content.codecs.table import dask_frames

                return dask_frames.read(layout, stored.datastore)
            case "pyspark":
                from mlflow_pipes.content.codecs.table import spark_frames

                return spark_frames.read(layout, stored.datastore)
            case "pandas" if package == "dask":
                return as_frame(_pandas(layout, stored.datastore), target[1])
        return convert(_arrow(layout, stored.datastore), target)

    def blobs(self, root: memoryview, datastore: Datastore) -> set[Digest]:  # noqa: ARG002 - the protocol's signature
        """Return the blobs of the parts."""
        return {part.blob for part in decode_layout(root).parts}

    def describe(self, leaf: Leaf) -> str:
        """Return the shape, and whose it is."""
        kind, _, shape = leaf.form.partition(" ")
        return f"table {by_size(shape)} in parts ({kind.partition('.')[0]})"


CODEC = PartitionedCodec()


def _encoded(kind: str, written: Sequence[Written], divisions: bytes, storing: Storing) -> Encoded:
    with_rows = [part for part in written if part.rows] or list(written[:1])
    differ = differing(with_rows)
    if differ:
        storing.refuse(f"the parts of a {kind} differ: {differ}; make them the same, such as with .astype(...)")
    kept = _divisions_between(written, divisions)
    layout = storing.datastore.put((encode_layout(with_rows, kept),))
    shape = f"{sum(part.rows for part in with_rows)}x{len(with_rows[0].columns)}"
    return Encoded(statement_of(with_rows), f"{kind} {shape}", layout)


def _divisions_between(written: Sequence[Written], divisions: bytes) -> bytes:
    """Return the divisions without those before parts that have no rows, which the layout leaves out."""
    if not divisions or all(part.rows for part in written):
        return divisions
    from mlflow_pipes.content.codecs.table import frames

    known = frames.decode(memoryview(divisions))
    kept = [number for number, part in enumerate(written) if part.rows]
    left = known.iloc[[*kept, len(written)]].reset_index(drop=True) if kept else known
    return b"".join(bytes(piece) for piece in frames.encode(left))


def _demand(layout: Layout, datastore: Datastore) -> None:
    """Raise ``BlobMissingError`` for a part that is not there now, before somebody far away finds out."""
    blobs = [part.blob for part in layout.parts]
    there = datastore.has(blobs)
    for number, blob in enumerate(blobs):
        if blob not in there:
            raise BlobMissingError(f"part {number} of a table is gone: blob {blob} is not in {datastore}", blob)


def _arrow(layout: Layout, datastore: Datastore) -> Any:
    """Return the whole table as one of pyarrow's; its columns are views of the blobs."""
    import pyarrow as pa

    views = [datastore.read(part.blob) for part in layout.parts] or [memoryview(layout.example)]
    return pa.concat_tables([as_arrow(view) for view in views], promote_options="permissive")


def _pandas(layout: Layout, datastore: Datastore) -> Any:
    import pandas as pd

    from mlflow_pipes.content.codecs.table import frames
    from mlflow_pipes.content.codecs.table.part_writing import is_numbering

    parts: list[Any] = [frames.decode(datastore.read(part.blob)) for part in layout.parts]
    if not parts:
        return frames.decode(memoryview(layout.example))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=is_numbering(parts[0].index))
