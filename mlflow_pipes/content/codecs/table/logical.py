"""Types of columns without how they lie in memory: two tables of one logical schema can have the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import types as kinds

from mlflow_pipes.digests import digest_record

if TYPE_CHECKING:
    from mlflow_pipes.digests import Part


def logical_type(kind: pa.DataType) -> Part:  # noqa: PLR0911 - one a kind
    """Return what tells a type from all others, but not 32-bit offsets from 64-bit ones or views."""
    if isinstance(kind, pa.BaseExtensionType):
        made_of = kind.__arrow_ext_serialize__() if isinstance(kind, pa.ExtensionType) else str(kind).encode()
        return ("extension", kind.extension_name, made_of, logical_type(kind.storage_type))
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return "text"
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind):
        return "bytes"
    if kinds.is_dictionary(kind):
        return ("dictionary", logical_type(kind.value_type), kind.ordered)
    if kinds.is_map(kind):
        return ("map", logical_type(kind.key_type), logical_type(kind.item_type))
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        return ("list", logical_type(kind.value_type))
    if kinds.is_fixed_size_list(kind):
        return ("list", logical_type(kind.value_type), kind.list_size)
    if kinds.is_struct(kind):
        return (
            "struct",
            tuple((field.name, logical_type(field.type)) for field in map(kind.field, range(kind.num_fields))),
        )
    if kinds.is_decimal(kind):
        return ("decimal", kind.bit_width, kind.precision, kind.scale)
    if kinds.is_timestamp(kind):
        return ("timestamp", kind.unit, kind.tz)
    return ("plain", str(kind))


def logical_schema(schema: pa.Schema, described: bytes = b"") -> str:
    """Return the hash of a logical schema: names and types of columns, in order.

    Args:
        schema: its metadata and which columns may be null do not count.
        described: what besides belongs to every table of the schema, such as pandas' dtypes.
    """
    columns = tuple((field.name, logical_type(field.type)) for field in schema)
    return digest_record("pipes.logical-schema/1", (columns, described))
