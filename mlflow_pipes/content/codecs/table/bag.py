"""What rows a table has, whatever their order: one number that parts of a table can be made to tell and add up.

It is the sum, modulo 2**256, of the keyed BLAKE3 hashes of the rows' encodings, and the number of rows. Equal rows
count as often as they occur. It tells different tables apart unless somebody looks for two that agree: sums of hashes
can be made to collide by who chooses millions of rows for it (Wagner's generalised birthday problem).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from blake3 import blake3

from mlflow_pipes.content.codecs.table.lanes import BLOCK_BYTES, keyed_hashes
from mlflow_pipes.content.codecs.table.rows import Rows, encode_rows

_KEY = blake3(b"pipes.row/1").digest()
_MODULUS = 2**256
_ROWS_AT_ONCE = 16 * 1024
_BYTES_AT_ONCE = 16 * 1024 * 1024
_MOST_BLOCKS = 8  # of longer rows the package hashes more bytes a second
_FEWEST_LANES = 64


class Bag(NamedTuple):
    """Rows without an order.

    Attributes:
        rows: how many.
        total: the sum of their hashes.
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: Bag) -> Bag:  # type: ignore[override] # not the sum of tuples
        """Return the rows of both."""
        return Bag(self.rows + other.rows, (self.total + other.total) % _MODULUS)


def bag_of(columns: Sequence[pa.Array | pa.ChunkedArray], count: int) -> Bag:
    """Return what rows some columns of *count* values make.

    Raises:
        Declined: a column is of a type whose values have no encoding.
    """
    whole = Bag()
    for start, rows in _slices(columns, count):
        found = encode_rows([column.slice(start, rows) for column in columns], rows)
        whole += Bag(rows, _total(found))
    return whole


def _slices(columns: Sequence[pa.Array | pa.ChunkedArray], count: int) -> Iterator[tuple[int, int]]:
    each_bytes = max(1, sum(column.nbytes for column in columns) // max(1, count))
    at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // each_bytes))
    for start in range(0, count, at_once):
        yield start, min(at_once, count - start)


def _total(rows: Rows) -> int:
    blocks = np.frombuffer(rows.content, "<u4").reshape(-1, BLOCK_BYTES // 4)
    first = rows.offsets[:-1] // BLOCK_BYTES
    lengths = np.diff(rows.offsets) // BLOCK_BYTES
    total = 0
    for length in np.unique(lengths).tolist():
        of_length = np.flatnonzero(lengths == length)
        if length > _MOST_BLOCKS or len(of_length) < _FEWEST_LANES:
            total += sum(_hash(rows, number) for number in of_length.tolist())
        elif len(of_length) == len(lengths):
            total += _sum(keyed_hashes(blocks.reshape(-1, length, BLOCK_BYTES // 4), _KEY))
        else:
            total += _sum(keyed_hashes(blocks[first[of_length][:, None] + np.arange(length)], _KEY))
    return total % _MODULUS


def _hash(rows: Rows, number: int) -> int:
    start, end = rows.offsets[number], rows.offsets[number + 1]
    return int.from_bytes(blake3(memoryview(rows.content)[start:end], key=_KEY).digest(), "little")


def _sum(words: Any) -> int:
    return sum(int(total) << (32 * place) for place, total in enumerate(words.sum(axis=1, dtype=np.uint64)))
