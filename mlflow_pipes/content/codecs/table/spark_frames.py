"""Spark's data frames: executors write and read the parts; the driver hears digests, and sends names of blobs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from mlflow_pipes.content.codec import ComputingError, Storing
from mlflow_pipes.content.codecs.table.layout import Layout, Written
from mlflow_pipes.content.codecs.table.part_reading import as_arrow
from mlflow_pipes.content.codecs.table.part_writing import write_batches
from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import DatastoreError, PipesError, UnstorableOutputError
from mlflow_pipes.spark_session import active_session

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

_PART_BYTES = 128 * 1024 * 1024  # of one part, which an executor holds in memory while it writes it
_SLICE_BYTES = 64 * 1024 * 1024
_BATCH_ROWS = 16 * 1024
_TOLD = "blob string, rows bigint, total binary, schema string, example binary"


def write(frame: Any, storing: Storing) -> tuple[Written, ...]:
    """Have a Spark frame computed and stored by the executors; return what they tell, in the order of partitions.

    Raises:
        UnstorableOutputError: it has columns that Arrow or this library cannot keep.
        ComputingError: computing it failed.
        DatastoreError: the executors have not what they need for it.
    """
    names = frame.columns
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        storing.refuse(f"it has several columns {twice[0]!r}; rename them, such as with .toDF(...)")
    try:
        schema = _arrow_schema(frame.schema)
    except Exception as error:  # noqa: BLE001 - Spark has several for it
        storing.refuse(f"a column is of a type that Arrow has not: {error}; cast it")
    datastore, where = storing.datastore, storing.where

    def write_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for group in _groups(batches, schema):
            yield _told(write_batches(group, schema, datastore, where))

    columns = tuple((field.name, str(field.type)) for field in schema)
    try:
        rows = frame.mapInArrow(write_parts, _TOLD).collect()
    except PipesError:
        raise
    except Exception as error:  # noqa: BLE001 - Spark has several for it
        _raise(error)
    if not rows:
        return (write_batches((), schema, datastore, where),)
    return tuple(Written(row.blob, row.rows, bytes(row.total), row.schema, columns, bytes(row.example)) for row in rows)


def read(layout: Layout, datastore: Datastore) -> Any:
    """Return a Spark frame of a table in parts: a partition a part, each read by the executor that needs it."""
    example = as_arrow(memoryview(layout.example))
    sources = [(str(part.blob), 0, part.rows) for part in layout.parts]
    return _frame(example, sources, datastore) if sources else of_table(example)


def of_blob(blob: Digest, rows: int, datastore: Datastore) -> Any:
    """Return a Spark frame of a table that is stored whole: slices of it, each read by the executor that needs it."""
    slices = min(max(rows, 1), 1 + blob.size_bytes // _SLICE_BYTES)
    bounds = [rows * number // slices for number in range(slices + 1)]
    sources = [(str(blob), start, end - start) for start, end in pairwise(bounds)]
    return _frame(as_arrow(datastore.read(blob)).slice(0, 0), sources, datastore)


def of_table(table: pa.Table) -> Any:
    """Return a Spark frame of a small table that is here."""
    schema = _schema_for_spark(table.schema)
    found: Any = table.cast(schema) if table.num_rows else []
    return active_session().createDataFrame(found, _spark_schema(schema))


def _frame(example: pa.Table, sources: Sequence[tuple[str, int, int]], datastore: Datastore) -> Any:
    schema = _schema_for_spark(example.schema)
    sources = list(sources)

    def read_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                blob, start, rows = sources[number]
                table = as_arrow(datastore.read(Digest.parse(blob))).slice(start, rows)
                yield from table.cast(schema).to_batches(max_chunksize=_BATCH_ROWS)

    numbers = active_session().range(0, len(sources), 1, len(sources))
    return numbers.mapInArrow(read_parts, _spark_schema(schema))


def _spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema, prefer_timestamp_ntz=True)


def _arrow_schema(schema: Any) -> pa.Schema:
    """Return the Arrow schema of one of Spark's, with moments in UTC whatever the session's zone is."""
    from pyspark.sql.pandas.types import to_arrow_schema

    is_told = "timezone" in inspect.signature(to_arrow_schema).parameters  # from 4.3 on; before, UTC is the default
    return _schema_for_spark(to_arrow_schema(schema, **({"timezone": "UTC"} if is_told else {})))


def _groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches, as many as make a part."""
    group: list[pa.RecordBatch] = []
    group_bytes = 0
    for batch in batches:
        group += pa.Table.from_batches([batch]).cast(schema).to_batches()
        group_bytes += batch.nbytes
        if group_bytes >= _PART_BYTES:
            yield group
            group, group_bytes = [], 0
    if any(one.num_rows for one in group):
        yield group


def _told(written: Written) -> pa.RecordBatch:
    row = {"blob": written.blob, "rows": written.rows, "total": written.total, "schema": written.schema}
    return pa.RecordBatch.from_pylist([{**row, "example": written.example}])


def _schema_for_spark(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, _type_for_spark(field.type, field.name)) for field in schema])


def _type_for_spark(kind: pa.DataType, name: str) -> pa.DataType:  # noqa: PLR0911 - one a kind
    """Return the type that Spark has for one of Arrow's."""
    is_ = pa.types
    if is_.is_dictionary(kind):
        return _type_for_spark(kind.value_type, name)
    if is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.string()
    if is_.is_large_binary(kind) or is_.is_binary_view(kind) or is_.is_fixed_size_binary(kind):
        return pa.binary()
    if is_.is_unsigned_integer(kind):
        return {8: pa.int16(), 16: pa.int32(), 32: pa.int64()}.get(kind.bit_width, pa.decimal128(20, 0))
    if is_.is_float16(kind):
        return pa.float32()
    if is_.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if is_.is_duration(kind):
        return pa.duration("us")
    if is_.is_date64(kind):
        return pa.date32()
    if is_.is_struct(kind):
        fields = map(kind.field, range(kind.num_fields))
        return pa.struct([pa.field(field.name, _type_for_spark(field.type, name)) for field in fields])
    if is_.is_map(kind):
        return pa.map_(_type_for_spark(kind.key_type, name), _type_for_spark(kind.item_type, name))
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return pa.list_(_type_for_spark(kind.value_type, name))
    return kind


def _raise(error: Exception) -> NoReturn:
    """Raise what a failure of Spark's means: whose it is stands in a Python traceback in its text, if at all."""
    text = str(error)
    if "No module named 'mlflow_pipes" in text or "No module named 'blake3" in text:
        raise DatastoreError(
            "the Spark executors cannot write tables: mlflow_pipes is not installed for the Python that they run "
            "(PYSPARK_PYTHON). Install it there, in the same version, or return frame.toPandas() where that is small"
        ) from error
    for kind in (UnstorableOutputError, DatastoreError):
        name = f"{kind.__module__}.{kind.__qualname__}: "
        if name in text:
            raise kind(text.partition(name)[2].splitlines()[0]) from error
    raise ComputingError(error) from error
