"""Tables of pandas, polars and pyarrow as one Arrow layout; a consumer gets the class it asks for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import Declined, Encoded, Stored, Storing, by_size

if TYPE_CHECKING:
    from mlflow_pipes.model.artifact import Leaf

_STORED = {
    ("pandas", "DataFrame"),
    ("pandas", "Series"),
    ("polars", "DataFrame"),
    ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
}
_IN_PARTS = {("dask", "DataFrame"), ("pyspark", "DataFrame")}  # stored by partitioned.py
_GIVEN = _STORED | _IN_PARTS | {("pyarrow", "RecordBatchReader")}
_LAZY = {
    ("polars", "LazyFrame"): "is a query, not a table; return query.collect()",
    ("pyarrow", "RecordBatchReader"): "can be read once only; return reader.read_all()",
    ("pyarrow", "Dataset"): "is a query, not a table; return dataset.to_table(), or the pathlib.Path of its folder",
}


def kind_of(value: Any) -> tuple[str, str]:
    """Return (top-level package, class name) of a value's class."""
    kind = type(value)
    return _package(kind.__module__.partition(".")[0]), kind.__name__


def _package(name: str) -> str:
    return "dask" if name == "dask_expr" else name  # until 2025, Dask's frames were a package of their own


class TableCodec:
    """Codec ``table``. The form is the class and the shape, such as ``pandas.DataFrame 336776x19``."""

    name = "table"

    def accepts(self, value: Any) -> bool:
        """Whether it is a table of no subclass, or something lazy that should have been one."""
        return kind_of(value) in _STORED or kind_of(value) in _LAZY

    def encode(self, value: Any, storing: Storing) -> Encoded:
        """Return the canonical Arrow stream of a table."""
        kind = kind_of(value)
        if kind in _LAZY:
            storing.refuse(f"a {'.'.join(kind)} {_LAZY[kind]}")
        rows, *width = value.shape if hasattr(value, "shape") else (value.num_rows, value.num_columns)
        form = f"{'.'.join(kind)} {'x'.join(map(str, (rows, *width)))}"
        if kind[0] == "pandas":
            from mlflow_pipes.content.codecs.table import frames

            return Encoded(frames.encode(value), form)
        if kind[0] == "polars":
            return Encoded(_encode_polars(value), form)
        return Encoded(_encode_arrow(value), form)

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the table as the class that is wanted, else as the class that was stored."""
        from mlflow_pipes.content.codecs.table import stream

        package, name = stored.leaf.form.partition(" ")[0].split(".")
        target = target_of(wanted, (package, name))
        if target in _IN_PARTS and stored.leaf.inline is None:
            return _in_slices(stored, target)
        view = stored.view()
        if package == "pandas":
            from mlflow_pipes.content.codecs.table import frames

            if target[0] == "pandas":
                return as_frame(frames.decode(view), target[1])
            if target[0] == "dask":
                return converted(frames.decode(view), wanted)
            return convert(frames.arrow_table(view), target)
        return convert(stream.read(view), target)

    def describe(self, leaf: Leaf) -> str:
        """Return the shape."""
        kind, _, shape = leaf.form.partition(" ")
        return f"{'series' if kind.endswith('Series') else 'table'} {by_size(shape)}"


CODEC = TableCodec()


def _in_slices(stored: Stored, target: tuple[str, str]) -> Any:
    """Return a table that is stored whole as a frame of Dask or Spark, whose workers read slices of it."""
    rows = int(stored.leaf.form.partition(" ")[2].partition("x")[0])
    if target[0] == "dask":
        from mlflow_pipes.content.codecs.table import dask_frames

        return dask_frames.of_blob(stored.leaf.digest, rows, stored.datastore)
    from mlflow_pipes.content.codecs.table import spark_frames

    return spark_frames.of_blob(stored.leaf.digest, rows, stored.datastore)


def target_of(wanted: Any, stored: tuple[str, str]) -> tuple[str, str]:
    """Return the class to give: the stored one where the annotation allows it, else the first table class in it."""
    named = [(_package(package), name) for package, name, _ in asked.names(wanted)]
    tables = [kind for kind in named if kind in _GIVEN]
    return stored if not tables or stored in tables else tables[0]


def as_frame(found: Any, name: str) -> Any:
    """Return a pandas frame or series as the one of the two that *name* is; a frame of one column can be a series."""
    if type(found).__name__ == name:
        return found
    if name == "DataFrame":
        return found.to_frame()
    if found.shape[1] == 1:
        return found.iloc[:, 0]
    raise TypeError(f"a pandas.Series was asked for, and the stored table has {found.shape[1]} columns")


def convert(table: Any, target: tuple[str, str]) -> Any:  # noqa: PLR0911 - one a class
    """Return an Arrow table as the class that is wanted."""
    match target:
        case ("pandas", name):
            return as_frame(table.to_pandas(), name)
        case ("polars", _):
            import polars as pl

            return pl.from_arrow(table)
        case ("pyarrow", "RecordBatch"):
            batches = table.combine_chunks().to_batches()
            return batches[0] if batches else sys.modules["pyarrow"].RecordBatch.from_pylist([], schema=table.schema)
        case ("pyarrow", "RecordBatchReader"):
            return table.to_reader()
        case ("dask", _):
            from mlflow_pipes.content.codecs.table import dask_frames

            return dask_frames.of_frame(table.to_pandas())
        case ("pyspark", _):
            from mlflow_pipes.content.codecs.table import spark_frames

            return spark_frames.of_table(table)
        case _:
            return table


def converted(value: Any, wanted: Any) -> Any:
    """Return a table that was stored by another codec as the class that is wanted; other values as they are."""
    kind = kind_of(value)
    if kind not in _STORED:
        return value
    target = target_of(wanted, kind)
    if target == kind:
        return value
    import pyarrow as pa

    if kind[0] == "pandas" and target[0] == "pandas":
        return as_frame(value, target[1])
    if kind[0] == "pandas" and target[0] == "dask":
        from mlflow_pipes.content.codecs.table import dask_frames

        return dask_frames.of_frame(as_frame(value, "DataFrame"))
    if kind[0] == "pandas":
        return convert(pa.Table.from_pandas(value if kind[1] == "DataFrame" else value.to_frame()), target)
    return convert(value.to_arrow() if kind[0] == "polars" else pa.table(value), target)


def _encode_polars(value: Any) -> Any:
    import polars as pl
    import pyarrow as pa

    try:
        table = value.to_arrow()
        if pl.from_arrow(table.slice(0, 0)).schema != value.schema:
            raise Declined("a polars column whose type Arrow does not keep")
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise Declined(str(error)) from error
    return _encode_arrow(table)


def _encode_arrow(value: Any) -> Any:
    import pyarrow as pa

    from mlflow_pipes.content.codecs.table import stream

    fields = [_canonical_field(field) for field in value.schema]
    schema = pa.schema(fields, metadata=_canonical_metadata(value.schema.metadata))
    arrays = next(batches := stream.batches(list(value.columns), stream.canonical_column, value.num_rows))
    from itertools import chain

    return stream.pieces(schema, chain([arrays], batches))


def _canonical_field(field: Any) -> Any:
    return field.with_metadata(_canonical_metadata(field.metadata))


def _canonical_metadata(metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """Return metadata in one order, without the versions of the libraries that wrote it."""
    if not metadata:
        return None
    kept = dict(sorted(metadata.items()))
    if b"pandas" in kept:
        try:
            described = json.loads(kept[b"pandas"])
        except ValueError:
            return kept
        described.pop("creator", None)
        described.pop("pandas_version", None)
        kept[b"pandas"] = json.dumps(described, sort_keys=True, separators=(",", ":")).encode()
    return kept
