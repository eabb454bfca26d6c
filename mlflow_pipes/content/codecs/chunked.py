"""Dask's arrays, in blocks that follow from shape and dtype alone: how an array was chunked changes nothing.

Whoever computes a block writes it; an array that is chunked otherwise is rechunked by Dask on the way.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import Encoded, Stored, Storing, by_size
from mlflow_pipes.content.codecs.array import CODEC as ARRAY
from mlflow_pipes.content.codecs.on_dask import Reached, block_reader, computed, writer
from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError
from mlflow_pipes.model.artifact import Leaf

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

FORMAT = "pipes.blocks/1"
BLOCK_BYTES = 64 * 1024 * 1024


def chunks_of(shape: Sequence[int], itemsize: int, block_bytes: int = BLOCK_BYTES) -> tuple[tuple[int, ...], ...]:
    """Return the blocks that an array is divided into, as Dask writes chunks: runs of items in C order, none too large.

    >>> chunks_of((20_000_000, 2), 4)
    ((8388608, 8388608, 3222784), (2,))
    """
    each = list(shape)
    for axis, length in enumerate(shape):
        inner_bytes = math.prod(shape[axis + 1 :]) * itemsize
        each[axis] = max(1, min(length, block_bytes // max(1, inner_bytes)))
        if inner_bytes <= block_bytes:
            break
    return tuple(_cut(length, step) for length, step in zip(shape, each, strict=True))


def _cut(length: int, step: int) -> tuple[int, ...]:
    rest = length % step if step else 0
    return (step,) * (length // step if step else 0) + ((rest,) if rest or not length else ())


class ChunkedCodec:
    """Codec ``chunked``: a manifest of blocks, each a ``.npy``. The form is class, dtype and shape.

    Args:
        block_bytes: no block is larger than that, but one item; other sizes give other identities.
    """

    name = "chunked"

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes

    def accepts(self, value: Any) -> bool:
        """Whether it is an array of Dask's."""
        kind = type(value)
        return kind.__module__.partition(".")[0] == "dask" and kind.__name__ == "Array"

    def encode(self, value: Any, storing: Storing) -> Encoded:
        """Have it computed and its blocks stored by who computes them."""
        from dask.delayed import delayed

        if value.dtype.hasobject or value.dtype.names:
            storing.refuse(f"a dask.Array of dtype {value.dtype} cannot be stored; give its items a dtype of numbers")
        if any(math.isnan(length) for length in value.shape):
            value = value.compute_chunk_sizes()
        dtype = value.dtype.newbyteorder("<").str
        chunks = chunks_of(value.shape, value.dtype.itemsize, self._block_bytes)
        call, reached = delayed(writer(write_block), pure=False), Reached(storing.datastore)
        blocks = value.rechunk(chunks).to_delayed().ravel()
        written = computed([call(block, dtype, reached, storing.where) for block in blocks])
        plain = {"dtype": dtype, "chunks": chunks, "blocks": written}
        manifest = json.dumps({FORMAT: plain}, separators=(",", ":"), sort_keys=True).encode()
        return Encoded(manifest, f"dask.Array {value.dtype.name} {'x'.join(map(str, value.shape))}".rstrip())

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return Dask's array, whose blocks are read when they are computed; NumPy's, whole, where that is wanted."""
        dtype, chunks, blocks = _read_manifest(stored.view())
        missing = set(blocks) - stored.datastore.has(blocks)
        for blob in missing:
            raise BlobMissingError(f"a block of an array is gone: blob {blob} is not in {stored.datastore}", blob)
        kinds = [(package, name) for package, name, _ in asked.names(wanted)]
        if ("numpy", "ndarray") in kinds and ("dask", "Array") not in kinds:
            whole = np.empty([sum(lengths) for lengths in chunks], dtype)
            for place, blob in zip(_places(chunks), blocks, strict=True):
                whole[place] = read_block(blob, stored.datastore)
            return whole
        reached = Reached(stored.datastore)
        return _lazy(read_numbered, chunks, dtype, blobs=[str(blob) for blob in blocks], reached=reached)

    def blobs(self, root: memoryview, datastore: Datastore) -> set[Digest]:  # noqa: ARG002 - the protocol's signature
        """Return the blocks."""
        return set(_read_manifest(root)[2])

    def describe(self, leaf: Leaf) -> str:
        """Return the shape and dtype."""
        _, dtype, *shape = leaf.form.split(" ")
        return f"array {by_size(shape[0]) + ' ' if shape else ''}{dtype} in blocks (dask)"


CODEC = ChunkedCodec()


def write_block(block: Any, dtype: str, reached: Any, where: str) -> str:
    """Store one block; return its digest, as text."""
    storing = Storing(reached(), None, where)
    if not isinstance(block, np.ndarray | np.generic):
        kind = f"{type(block).__module__}.{type(block).__name__}"
        storing.refuse(f"blocks of a dask.Array are {kind}; make them NumPy arrays")
    pieces = ARRAY.encode(np.asarray(block, dtype), storing).pieces
    assert not isinstance(pieces, bytes | Digest)
    return str(storing.datastore.put(pieces))


def read_block(blob: Digest, datastore: Datastore) -> Any:
    """Return one block; its items are a view of the blob."""
    return ARRAY.decode(Stored(Leaf("array", blob, "ndarray"), datastore), Any)


def read_numbered(place: Sequence[int], *, counts: Sequence[int], blobs: Sequence[str], reached: Any) -> Any:
    """Return the block of that place in an array that is stored in blocks."""
    return read_block(Digest.parse(blobs[_number(place, counts)]), reached())


def read_slice(
    place: Sequence[int], *, counts: Sequence[int], starts: Sequence[Any], blob: str, form: str, reached: Any
) -> Any:
    """Return the block of that place in an array that is stored whole."""
    whole = ARRAY.decode(Stored(Leaf("array", Digest.parse(blob), form), reached()), Any)
    return whole[starts[_number(place, counts)]]


def sliced(leaf: Leaf, datastore: Datastore, block_bytes: int = BLOCK_BYTES) -> Any:
    """Return Dask's array of one that is stored whole: blocks of it, each read when it is computed."""
    import dask.array as da

    if leaf.inline is not None:
        return da.from_array(ARRAY.decode(Stored(leaf, datastore), Any))
    head = io.BytesIO(datastore.read(leaf.digest)[:65_600])
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    chunks = chunks_of(shape, dtype.itemsize, block_bytes)
    stored = {"blob": str(leaf.digest), "form": leaf.form, "reached": Reached(datastore)}
    return _lazy(read_slice, chunks, dtype, starts=list(_places(chunks)), **stored)


def _lazy(read: Any, chunks: tuple[tuple[int, ...], ...], dtype: Any, **given: Any) -> Any:
    import dask.array as da

    counts = [len(lengths) for lengths in chunks]
    meta = np.empty((0,) * len(chunks), dtype)
    return da.map_blocks(block_reader(read), chunks=chunks, dtype=dtype, meta=meta, counts=counts, **given)


def _number(block_id: Sequence[int], counts: Sequence[int]) -> int:
    number = 0
    for place, count in zip(block_id, counts, strict=True):
        number = number * count + place
    return number


def _places(chunks: Sequence[Sequence[int]]) -> Iterator[tuple[slice, ...]]:
    """Yield where each block lies in the array, in C order."""
    along = []
    for lengths in chunks:
        ends = np.cumsum(lengths).tolist()
        along.append([slice(end - length, end) for end, length in zip(ends, lengths, strict=True)])
    yield from product(*along)


def _read_manifest(blob: memoryview) -> tuple[Any, tuple[tuple[int, ...], ...], list[Digest]]:
    try:
        plain = json.loads(bytes(blob))[FORMAT]
        chunks = tuple(tuple(lengths) for lengths in plain["chunks"])
        return np.dtype(plain["dtype"]), chunks, [Digest.parse(text) for text in plain["blocks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BlobCorruptError(f"the manifest of an array in blocks cannot be read: {error}") from error
