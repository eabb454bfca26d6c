"""Tables as Arrow IPC streams, written piece by piece and read without a copy.

A table is one record batch, so that each column lies in the blob as one run of memory: pandas and NumPy can use it
where it is. Only a column of more than 2 GiB of text with 32-bit offsets forces several batches of a fixed number of
rows; that depends on the table alone, not on its chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import ipc

from mlflow_pipes.content.codecs.table.canonical import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS_OF_LARGE = 128 * 1024


class _Pieces:
    """A file that hands on what Arrow writes to it; Arrow's buffers are not copied."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes | memoryview] = []

    def write(self, piece: Any) -> int:
        self._written.append(piece if isinstance(piece, bytes) else memoryview(piece))
        return len(piece)

    def take(self) -> list[bytes | memoryview]:
        written, self._written = self._written, []
        return written

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def tell(self) -> int:
        return 0

    @staticmethod
    def writable() -> bool:
        return True

    @staticmethod
    def readable() -> bool:
        return False

    @staticmethod
    def seekable() -> bool:
        return False


def batches(
    columns: list[pa.Array | pa.ChunkedArray], each: Callable[[int, Any], pa.Array], rows: int
) -> Iterator[list[pa.Array]]:
    """Yield the canonical columns of each record batch; *each* makes column number and values canonical."""
    try:
        whole = [each(number, column) for number, column in enumerate(columns)]
    except pa.ArrowInvalid as error:
        if "overflow" not in str(error):
            raise
    else:
        yield whole
        return
    for start in range(0, rows, ROWS_OF_LARGE):
        yield [each(number, column.slice(start, ROWS_OF_LARGE)) for number, column in enumerate(columns)]


def canonical_column(number: int, column: Any) -> pa.Array:
    """Return the canonical array of any column."""
    del number
    return canonical(column)


def pieces(schema: pa.Schema, arrays: Iterator[list[pa.Array]]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an Arrow IPC stream."""
    sink = _Pieces()
    options = ipc.IpcWriteOptions(compression=None, use_threads=False)
    with ipc.new_stream(pa.PythonFile(sink, mode="w"), schema, options=options) as writer:
        for batch in arrays:
            writer.write_batch(pa.RecordBatch.from_arrays(batch, schema=schema))
            yield from sink.take()
    yield from sink.take()


def read(view: memoryview) -> pa.Table:
    """Return the table of an Arrow IPC stream; its columns are views of the memory given."""
    if not view.nbytes:
        return pa.table({})
    with ipc.open_stream(pa.py_buffer(view)) as reader:
        return reader.read_all()
