"""A datastore that only hashes, for plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from mlflow_pipes.digests import Digest, Hasher

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from mlflow_pipes.ports import Datastore


class DryDatastore:
    """Tells what the digests would be and writes nothing; everything else is the inner datastore's answer."""

    def __init__(self, inner: Datastore) -> None:
        self.inner = inner

    def put(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Return the digest of a stream, which is then forgotten."""
        hasher = Hasher()
        for piece in pieces:
            hasher.update(piece)
        return hasher.digest()

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob of the inner datastore."""
        return self.inner.open(digest)

    def read(self, digest: Digest) -> memoryview:
        """Return a whole blob of the inner datastore."""
        return self.inner.read(digest)

    def has(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are in the inner datastore."""
        return self.inner.has(digests)

    def delete(self, digests: Iterable[Digest]) -> None:
        """Remove nothing."""
