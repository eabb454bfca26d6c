"""Rows of tables as bytes: equal rows have equal bytes, in whatever table, chunk or layout they stand.

The encoding (``pipes.row/1``) is injective for rows of one logical schema (``logical.py``)::

    bits     one for each column, and before those of a struct's fields one for the struct: 1 where there is a value
    cells    of all columns, in order; zeros where there is no value
    tails    of the columns of varying length, in order
    zeros    up to a multiple of 64 bytes

A cell is the value's bytes, little endian; of text and bytes the length (32 bits), and the bytes are its tail; of lists
and maps the number of items and the length of the tail, which is the encodings of the items without zeros after them;
of structs the cells of the fields. All NaN are one. What has a dictionary is encoded as what it stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as kinds

from mlflow_pipes.content.codec import Declined
from mlflow_pipes.content.codecs.table.canonical import canonical
from mlflow_pipes.content.codecs.table.lanes import BLOCK_BYTES

_LENGTH = np.dtype("<u4")
_LONGEST = 2**32


class Rows(NamedTuple):
    """Encoded rows: one after the other in *content*; row ``n`` begins at ``offsets[n]``."""

    content: Any
    offsets: Any


def encode_rows(columns: Sequence[pa.Array | pa.ChunkedArray], count: int) -> Rows:
    """Return the encodings of *count* rows; each is a multiple of 64 bytes long.

    Raises:
        Declined: a column is of a type that has no encoding (unions, views of lists).
    """
    taken = _Taken(count)
    for column in columns:
        taken.add(_whole(column))
    return taken.joined(BLOCK_BYTES)


class _Taken:
    """Columns taken apart: where values are, cells of fixed width, tails."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._nulls: list[Any] = []  # a mask for each bit; None where there is a value in each row
        self._cells: list[Any] = []
        self._tails: list[tuple[Any, Any]] = []  # bytes, offsets

    def add(self, array: pa.Array) -> None:
        """Take a canonical array of as many values as there are rows."""
        kind = array.type
        if isinstance(kind, pa.BaseExtensionType):
            self.add(_whole(array.storage))
        elif not len(array):
            return
        else:
            self._nulls.append(np.asarray(array.is_null()) if array.null_count else None)
            self._add_values(array, kind)

    def _add_values(self, array: pa.Array, kind: pa.DataType) -> None:
        if kinds.is_null(kind):
            return
        if kinds.is_boolean(kind):
            bits = np.frombuffer(array.buffers()[1], np.uint8)
            self._cells.append(np.unpackbits(bits, count=len(array), bitorder="little"))
        elif kinds.is_struct(kind):
            for child in array.flatten():
                self.add(_whole(child))
        elif kinds.is_string(kind) or kinds.is_binary(kind):
            self._add_tail(np.frombuffer(array.buffers()[1], np.int32), array.buffers()[2])
        elif kinds.is_large_string(kind) or kinds.is_large_binary(kind):
            self._add_tail(np.frombuffer(array.buffers()[1], np.int64), array.buffers()[2])
        elif kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_map(kind):
            width = np.int64 if kinds.is_large_list(kind) else np.int32
            items = [array.keys, array.items] if kinds.is_map(kind) else [array.values]
            self._add_items(np.frombuffer(array.buffers()[1], width), items)
        elif kinds.is_fixed_size_list(kind):
            self._add_items(np.arange(len(array) + 1, dtype=np.int64) * kind.list_size, [array.values])
        else:
            self._cells.append(_fixed(array, kind))

    def _add_items(self, offsets: Any, items: list[pa.Array]) -> None:
        inner = _Taken(int(offsets[len(self)]))
        for array in items:
            inner.add(_whole(array))
        rows = inner.joined(1)
        self._cells.append(_lengths(offsets[: len(self) + 1]))
        self._add_tail(rows.offsets[offsets[: len(self) + 1]], rows.content)

    def _add_tail(self, offsets: Any, content: Any) -> None:
        offsets = offsets[: len(self) + 1].astype(np.int64, copy=False)
        self._cells.append(_lengths(offsets))
        self._tails.append((b"" if content is None else content, offsets))

    def __len__(self) -> int:
        return self._count

    def joined(self, multiple: int) -> Rows:
        """Return the rows, with zeros after each up to a multiple of so many bytes."""
        count = len(self)
        if not count:
            return Rows(np.empty(0, np.uint8), np.zeros(1, np.int64))
        bits = self._bits()
        width = bits.shape[1] + sum(cell.dtype.itemsize for cell in self._cells)
        zeros = 0 if self._tails else -width % multiple
        fields: list[Any] = [("bits", np.uint8, (bits.shape[1],))]
        fields += [(f"{number}", cell.dtype) for number, cell in enumerate(self._cells)]
        rows: Any = np.zeros(count, np.dtype([*fields, ("zeros", np.uint8, (zeros,))]))
        rows["bits"] = bits
        for number, cell in enumerate(self._cells):
            rows[f"{number}"] = cell
        offsets = np.arange(count + 1, dtype=np.int64) * rows.dtype.itemsize
        if not self._tails:
            return Rows(rows.view(np.uint8).reshape(-1), offsets)
        lengths = width + sum(np.diff(tail) for _, tail in self._tails)
        pieces = [_binary(rows, offsets), *(_binary(*tail) for tail in self._tails)]
        if multiple > 1:
            zeros_of = pa.array([bytes(length) for length in range(multiple)], pa.large_binary())
            pieces.append(zeros_of.take(pa.array(-lengths % multiple)))
        joined = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
        return Rows(np.frombuffer(joined.buffers()[2], np.uint8), np.frombuffer(joined.buffers()[1], np.int64))

    def _bits(self) -> Any:
        bits = np.full((len(self), max(1, (len(self._nulls) + 7) // 8)), 0xFF, np.uint8)
        for number, null in enumerate(self._nulls):
            if null is not None:
                bits[:, number // 8] ^= null.astype(np.uint8) << (number % 8)
        return bits


def _whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column's values as one canonical array, without a dictionary."""
    kind = values.type
    if kinds.is_dictionary(kind):
        chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
        return _whole(pa.chunked_array([chunk.dictionary_decode() for chunk in chunks], kind.value_type))
    if kinds.is_string_view(kind) or kinds.is_binary_view(kind):
        return canonical(values.cast(pa.large_binary()))
    return canonical(values)


def _binary(content: Any, offsets: Any) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers, 0)


def _lengths(offsets: Any) -> Any:
    lengths = np.diff(offsets)
    if len(lengths) and int(lengths.max()) >= _LONGEST:
        raise Declined("a cell of 4 GiB or more")
    return lengths.astype(_LENGTH)


def _fixed(array: pa.Array, kind: pa.DataType) -> Any:
    content = array.buffers()[1]
    if kinds.is_floating(kind):
        values = np.frombuffer(content, f"<f{kind.bit_width // 8}", len(array))
        missing = np.isnan(values)
        if missing.any():
            values = values.copy()
            values[missing] = np.nan
        return values
    width = kind.byte_width if kinds.is_fixed_size_binary(kind) else kind.bit_width // 8
    whole = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}.get(width, f"V{width}")
    return np.frombuffer(content, whole, len(array)) if width else np.empty(len(array), "V0")
