"""BLAKE3 of many short messages at once: NumPy computes what the ``blake3`` package does, a lane a message.

A call of the package costs more than a microsecond, which for rows of 20 bytes comes to less than 20 MB/s. Here each
of the function's additions, exclusive-ors and rotations is done for thousands of messages by one instruction of
NumPy's. Messages are whole blocks of 64 bytes and at most one chunk (1024 bytes) long; longer ones are the package's.

Source: the BLAKE3 specification, sections 2.1 to 2.3 (https://github.com/BLAKE3-team/BLAKE3-specs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

BLOCK_BYTES = 64
CHUNK_BLOCKS = 16

_WORDS = BLOCK_BYTES // 4
_LANES = (
    8192  # 32 KiB a word: a call of NumPy costs as much as the work on thousands, and a core's second cache holds all
)
_START, _END, _ROOT, _KEYED = 1, 2, 8, 16
_INITIAL = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A)
_PERMUTED = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)


def _schedule() -> list[list[int]]:
    """Return, for each of the seven rounds, which word of the message stands where."""
    rounds = [list(range(_WORDS))]
    while len(rounds) < 7:
        rounds.append([rounds[-1][place] for place in _PERMUTED])
    return rounds


_SCHEDULE = _schedule()
_SHIFTS = {bits: (np.array(bits, np.uint32), np.array(32 - bits, np.uint32)) for bits in (16, 12, 8, 7)}


def keyed_hashes(blocks: Words, key: bytes) -> Words:
    """Return the keyed hashes of messages, as eight words (rows) by message (columns), little endian.

    Args:
        blocks: words by message, block, and place in the block: of shape (messages, blocks, 16).
        key: 32 bytes.
    """
    count, length, _ = blocks.shape
    assert 0 < length <= CHUNK_BLOCKS
    found = np.empty((8, count), np.uint32)
    for start in range(0, count, _LANES):
        found[:, start : start + _LANES] = _hashed(blocks[start : start + _LANES], np.frombuffer(key, "<u4"))
    return found


def _hashed(blocks: Words, key: Any) -> Words:
    count, length, _ = blocks.shape
    chained = np.repeat(key.astype(np.uint32)[:, None], count, axis=1)
    state = _State(count)
    for number in range(length):
        flags = _KEYED | (_START if number == 0 else 0) | (_END | _ROOT if number == length - 1 else 0)
        state.compress(chained, np.ascontiguousarray(blocks[:, number, :].T), flags)
    return chained


class _State:
    """The sixteen words of each message's state as four rows of four, so that four mixings are one.

    A round mixes columns, then diagonals. Three rows of four have room behind them for what a diagonal needs of their
    beginning: to mix diagonals is to look at them from another word on.
    """

    def __init__(self, count: int) -> None:
        self._rows = tuple(np.empty((4 + number, count), np.uint32) for number in range(4))
        self._spare = np.empty((4, count), np.uint32)
        self._columns = tuple(row[:4] for row in self._rows)
        self._diagonals = tuple(row[number : number + 4] for number, row in enumerate(self._rows))

    def compress(self, chained: Words, message: Words, flags: int) -> None:
        """Mix a block of each message into its chained words, in place."""
        a, b, c, d = self._columns
        a[:], b[:] = chained[:4], chained[4:]
        c[:] = np.array(_INITIAL, np.uint32)[:, None]
        d[:] = np.array([0, 0, BLOCK_BYTES, flags], np.uint32)[:, None]
        for order in _SCHEDULE:
            self._mix(self._columns, message, order[:8])
            for number, row in enumerate(self._rows):
                row[4:] = row[:number]
            self._mix(self._diagonals, message, order[8:])
            for number, row in enumerate(self._rows):
                row[:number] = row[4:]
        np.bitwise_xor(a, c, out=chained[:4])
        np.bitwise_xor(b, d, out=chained[4:])

    def _mix(self, rows: Sequence[Words], message: Words, order: Sequence[int]) -> None:
        """Do the specification's quarter round on four columns or diagonals at once."""
        a, b, c, d = rows
        for words, first, second in ((order[::2], 16, 12), (order[1::2], 8, 7)):
            np.add(a, b, out=a)
            for number, word in enumerate(words):
                np.add(a[number], message[word], out=a[number])
            np.bitwise_xor(d, a, out=d)
            self._rotate(d, first)
            np.add(c, d, out=c)
            np.bitwise_xor(b, c, out=b)
            self._rotate(b, second)

    def _rotate(self, words: Words, bits: int) -> None:
        right, left = _SHIFTS[bits]
        np.right_shift(words, right, out=self._spare)
        np.left_shift(words, left, out=words)
        np.bitwise_or(words, self._spare, out=words)
