"""Arrow arrays in one canonical layout: equal values have equal buffers.

Arrow lets one array lie in memory in many ways: chunked, sliced with an offset, with or without a bitmap when nothing
is null, with anything at all under nulls and in padding, with a dictionary in any order. Here every array becomes one
chunk at offset 0, without a bitmap when nothing is null, with zeros under nulls, and with nothing unreachable. Buffers
that are so already are not copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as kinds

from mlflow_pipes.content.codec import Declined


def canonical(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return the canonical array of a column.

    Raises:
        Declined: its type has no canonical layout here (unions).
        pyarrow.ArrowInvalid: its text or bytes exceed 2 GiB and its type counts them in 32 bits.
    """
    if isinstance(values, pa.ChunkedArray):
        if kinds.is_dictionary(values.type):
            values = values.unify_dictionaries()
        chunks = [chunk for chunk in values.chunks if len(chunk)]
        values = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], values.type)
    return _array(values)


def _array(array: pa.Array) -> pa.Array:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _array(array.storage))
    if not len(array):
        return _empty(kind)
    for test, layout in _LAYOUTS:
        if test(kind):
            return layout(array)
    try:
        width = kind.bit_width
    except ValueError as error:  # unions, run-end-encoded, list views
        raise Declined(f"a column of Arrow type {kind} has no canonical layout") from error
    return _fixed_width(array, width // 8)


def _empty(kind: pa.DataType) -> pa.Array:
    if kinds.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            pa.array([], kind.index_type), pa.array([], kind.value_type), ordered=kind.ordered
        )
    return pa.array([], kind)


def _validity(array: pa.Array) -> tuple[pa.Buffer | None, Any]:
    """Return (canonical bitmap, mask that is true where null), or (None, None) when nothing is null."""
    if not array.null_count:
        return None, None
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    first = array.offset // 8
    valid = np.unpackbits(bits[first : (array.offset + len(array) + 7) // 8], bitorder="little")
    valid = valid[array.offset - first * 8 :][: len(array)]
    return pa.py_buffer(np.packbits(valid, bitorder="little")), valid == 0


def _fixed_width(array: pa.Array, width: int) -> pa.Array:
    bitmap, null = _validity(array)
    data = array.buffers()[1].slice(array.offset * width, len(array) * width)
    if null is not None and width:
        cells = np.frombuffer(data, np.uint8).reshape(len(array), width)
        if cells[null].any():
            cells = cells.copy()
            cells[null] = 0
            data = pa.py_buffer(cells)
    return pa.Array.from_buffers(array.type, len(array), [bitmap, data], -1 if bitmap else 0)


def _boolean(array: pa.Array) -> pa.Array:
    bitmap, null = _validity(array)
    first = array.offset // 8
    bits = np.frombuffer(array.buffers()[1], np.uint8)[first : (array.offset + len(array) + 7) // 8]
    values = np.unpackbits(bits, bitorder="little")[array.offset - first * 8 :][: len(array)]
    if null is not None:
        values = np.where(null, 0, values).astype(np.uint8)
    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(array.type, len(array), [bitmap, packed], -1 if bitmap else 0)


def _offsets(array: pa.Array) -> Any:
    wide = kinds.is_large_list(array.type) or kinds.is_large_string(array.type) or kinds.is_large_binary(array.type)
    offsets = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)
    return offsets[array.offset : array.offset + len(array) + 1]


def _text(array: pa.Array) -> pa.Array:
    bitmap, null = _validity(array)
    offsets = _offsets(array)
    data = array.buffers()[2]
    if null is not None and np.diff(offsets)[null].any():  # bytes under nulls
        nothing = b"" if kinds.is_binary(array.type) or kinds.is_large_binary(array.type) else ""
        array = pc.fill_null(array, pa.scalar(nothing, array.type))
        offsets, data = _offsets(array), array.buffers()[2]
    start, end = int(offsets[0]), int(offsets[-1])
    data = pa.py_buffer(b"") if data is None else data.slice(start, end - start)
    if start:
        offsets = offsets - offsets[0]
    buffers = [bitmap, pa.py_buffer(np.ascontiguousarray(offsets)), data]
    return pa.Array.from_buffers(array.type, len(array), buffers, -1 if bitmap else 0)


def _list(array: pa.Array) -> pa.Array:
    bitmap, null = _validity(array)
    offsets = _offsets(array)
    if null is not None and np.diff(offsets)[null].any():  # items under nulls
        array = array.take(pa.array(np.arange(len(array))))
        bitmap, null = _validity(array)
        offsets = _offsets(array)
    start, end = int(offsets[0]), int(offsets[-1])
    if kinds.is_map(array.type):
        # A map's child is a struct of keys and items; `.values` would hide its layout, so both are taken as arrays.
        keys, items = _array(array.keys.slice(start, end - start)), _array(array.items.slice(start, end - start))
        child = pa.StructArray.from_arrays([keys, items], fields=[array.type.key_field, array.type.item_field])
    else:
        child = _array(array.values.slice(start, end - start))
    if start:
        offsets = offsets - offsets[0]
    buffers = [bitmap, pa.py_buffer(np.ascontiguousarray(offsets))]
    return pa.Array.from_buffers(array.type, len(array), buffers, -1 if bitmap else 0, children=[child])


def _fixed_size_list(array: pa.Array) -> pa.Array:
    bitmap, null = _validity(array)
    size = array.type.list_size
    child = array.values.slice(array.offset * size, len(array) * size)
    if null is not None and size:
        positions = np.arange(len(child))
        child = child.take(pa.array(positions, mask=np.repeat(null, size)))
    return pa.Array.from_buffers(array.type, len(array), [bitmap], -1 if bitmap else 0, children=[_array(child)])


def _struct(array: pa.Array) -> pa.Array:
    bitmap, _ = _validity(array)
    children = [_array(child) for child in array.flatten()]  # with the struct's nulls, at offset 0
    return pa.Array.from_buffers(array.type, len(array), [bitmap], -1 if bitmap else 0, children=children)


def _dictionary(array: pa.Array) -> pa.Array:
    """Return it with the dictionary in order of first use and nothing unused; an ordered one keeps its dictionary."""
    kind = array.type
    if kind.ordered:
        return pa.DictionaryArray.from_arrays(_array(array.indices), _array(array.dictionary), ordered=True)
    try:
        used = pc.dictionary_encode(array.dictionary_decode())
        indices = used.indices.cast(kind.index_type)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise Declined(f"a column of Arrow type {kind} has no canonical layout") from error
    return pa.DictionaryArray.from_arrays(_array(indices), _array(used.dictionary))


def keep_dictionary(array: pa.DictionaryArray) -> pa.Array:
    """Return a dictionary array whose dictionary is part of the value (a pandas categorical's categories)."""
    return pa.DictionaryArray.from_arrays(_array(array.indices), _array(array.dictionary), ordered=array.type.ordered)


_LAYOUTS: tuple[tuple[Any, Callable[[pa.Array], pa.Array]], ...] = (
    (kinds.is_null, lambda array: pa.nulls(len(array))),
    (kinds.is_dictionary, _dictionary),
    (kinds.is_struct, _struct),
    (kinds.is_list, _list),
    (kinds.is_large_list, _list),
    (kinds.is_map, _list),
    (kinds.is_fixed_size_list, _fixed_size_list),
    (kinds.is_boolean, _boolean),
    (kinds.is_string, _text),
    (kinds.is_binary, _text),
    (kinds.is_large_string, _text),
    (kinds.is_large_binary, _text),
    (kinds.is_string_view, lambda array: _text(array.cast(pa.large_string())).cast(array.type)),
    (kinds.is_binary_view, lambda array: _text(array.cast(pa.large_binary())).cast(array.type)),
)
