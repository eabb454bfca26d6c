"""A datastore in this process's memory, for tests and for trying things out."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from mlflow_pipes.digests import Digest, digest_bytes
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class MemoryDatastore:
    """Blobs in a dictionary; lives and dies with its process, so it cannot be sent to a worker."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, tuple[bytes, float]] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemoryDatastore lives in one process and cannot be sent to another; use a LocalDatastore")

    def put(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Store a stream."""
        content = b"".join(pieces)
        digest = digest_bytes(content)
        self._blobs[digest] = (content, time.time())
        return digest

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading."""
        return io.BytesIO(self.read(digest))

    def read(self, digest: Digest) -> memoryview:
        """Return a whole blob, verified."""
        try:
            content = self._blobs[digest][0]
        except KeyError:
            raise BlobMissingError(f"blob {digest} is not in this memory datastore", digest) from None
        if digest_bytes(content) != digest:
            raise BlobCorruptError(f"blob {digest} in this memory datastore is corrupt", digest)
        return memoryview(content)

    def has(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are there."""
        return {digest for digest in digests if digest in self._blobs}

    def delete(self, digests: Iterable[Digest]) -> None:
        """Remove blobs; those not there are ignored."""
        for digest in digests:
            self._blobs.pop(digest, None)

    def blobs(self) -> Iterator[tuple[Digest, float]]:
        """Yield each blob with the time it was last written."""
        for digest, (_, written_at) in list(self._blobs.items()):
            yield digest, written_at
