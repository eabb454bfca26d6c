"""A datastore with a nearer one before it: bytes that were here once need not come again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from mlflow_pipes.digests import Digest, Hasher
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError, DatastoreError
from mlflow_pipes.ports import Datastore, Unverified
from mlflow_pipes.stores.bound import NoRoomError
from mlflow_pipes.stores.bounded import BoundedDatastore
from mlflow_pipes.stores.local import SMALL_BYTES

if TYPE_CHECKING:
    from mlflow_pipes.stores.bounded import Writing

_PIECE_BYTES = 1024 * 1024

_T = TypeVar("_T")
_told: set[str] = set()
_log = logging.getLogger(__name__)


def tiered(far: Datastore, place: str, most_bytes: int) -> Datastore:
    """Return *far* with a tier on this machine before it; or *far* itself where that would be of no use.

    It is of none on the file system that *far* is on.

    Args:
        far: the datastore.
        place: a folder; ``~`` and environment variables in it are those of this process. The tier is in a folder of
            this user's below it.
        most_bytes: what it may occupy.
    """
    folder = os.path.expandvars(os.path.expanduser(place))  # noqa: PTH111 - text, which may have variables
    if not os.path.isabs(folder):  # noqa: PTH117 - as above
        _tell(place, "it is no absolute path here, or a variable in it is not set")
        return far
    near = Path(folder) / f"mlflow_pipes-{os.geteuid()}"
    beside = getattr(far, "folder", None)
    if beside is not None and _device(Path(beside)) == _device(near):
        _log.info("no local tier at %s: the datastore is on the same file system", near)
        return far
    return TieredDatastore(far, BoundedDatastore(near, most_bytes), TierThere(far, place, most_bytes))


class TierThere:
    """A datastore that is tiered where it is unpickled: the tier is of that machine.

    Arguments as of :func:`tiered`.
    """

    def __init__(self, far: Datastore, place: str, most_bytes: int) -> None:
        self._arguments = (far, place, most_bytes)

    def __reduce__(self) -> tuple[Callable[..., Datastore], tuple[Datastore, str, int]]:
        return tiered, self._arguments


class TieredDatastore:
    """A datastore, and a nearer one that holds copies of its blobs, as many as that has room for.

    What is written goes to the far one, and stays in the near one. What is read is taken from the near one, and copied
    there before where it lacks it. Which blobs there are is the far one's to say. Whatever is wrong with the near one,
    it is as if it were not there; that is logged, once a process.

    Args:
        far: where blobs are.
        near: where copies are.
        there: what is sent to other processes instead, where the near one is of this machine only.
    """

    def __init__(self, far: Datastore, near: BoundedDatastore, there: TierThere | None = None) -> None:
        self.far = far
        self.near = near
        self._there = there

    def __reduce__(self) -> tuple[Any, ...]:
        return (TieredDatastore, (self.far, self.near)) if self._there is None else self._there.__reduce__()

    def __repr__(self) -> str:
        return f"TieredDatastore({self.far!r}, {self.near!r})"

    # -- writing

    def put(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Store a stream in the far datastore; its copy is made on the way."""
        size_bytes = 0
        if isinstance(pieces, tuple | list):
            size_bytes = sum([memoryview(piece).nbytes for piece in pieces])
            if size_bytes <= SMALL_BYTES:
                return self._put_small(b"".join(pieces))
        copy = _Copy(self._tell)
        copy.begin(lambda: self.near.writing(size_bytes))
        try:
            digest = self.far.put(copy.passing(pieces))
            copy.keep(digest)
        finally:
            copy.drop()
        return digest

    def _put_small(self, content: bytes) -> Digest:
        digest = self.far.put((content,))
        if not self.near.used(digest):
            copy = _Copy(self._tell)
            copy.begin(lambda: self.near.writing(len(content)))
            copy.write(content)
            copy.keep(digest)
            copy.drop()
        return digest

    # -- reading

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for reading, verified."""
        found = self._from_near(digest, self.near.open)
        return self.far.open(digest) if found is None else found

    def read(self, digest: Digest) -> memoryview:
        """Return a whole blob, verified; memory-mapped."""
        found = self._from_near(digest, self.near.read)
        return self.far.read(digest) if found is None else found

    def _from_near(self, digest: Digest, take: Callable[[Digest], _T]) -> _T | None:
        """Return a blob that is near, or is then; None when that cannot be."""
        found = self._taken(digest, take)
        if found is not None:
            return found
        try:
            with self.near.fetching(digest):
                found = self._taken(digest, take)  # another process may have fetched it
                if found is not None or not self._copied(digest):
                    return found
        except BlobMissingError:
            raise
        except DatastoreError as error:
            self._tell(error)
            return None
        return self._taken(digest, take)

    def _taken(self, digest: Digest, take: Callable[[Digest], _T]) -> _T | None:
        try:
            return take(digest)
        except BlobMissingError:
            return None
        except BlobCorruptError as error:
            self._tell(error)
            with suppress(DatastoreError):
                self.near.delete([digest])
        except DatastoreError as error:
            self._tell(error)
        return None

    def _copied(self, digest: Digest) -> bool:
        """Copy a blob; false when that cannot be, also when the far datastore is why: it says so when it is read."""
        copy = _Copy(self._tell)
        copy.begin(lambda: self.near.writing(digest.size_bytes))
        hasher = Hasher()
        try:
            with self._far_file(digest) as file:
                while copy.goes_on and (piece := file.read(_PIECE_BYTES)):
                    hasher.update(piece)
                    copy.write(piece)
            return hasher.digest() == digest and copy.keep(digest)
        except BlobMissingError:
            raise
        except (OSError, DatastoreError):
            return False
        finally:
            copy.drop()

    def _far_file(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        far = self.far
        return far.open_unverified(digest) if isinstance(far, Unverified) else far.open(digest)

    # -- the whole

    def has(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are in the far datastore."""
        return self.far.has(digests)

    def delete(self, digests: Iterable[Digest]) -> None:
        """Remove blobs from both."""
        doomed = list(digests)
        self.far.delete(doomed)
        try:
            self.near.delete(doomed)
        except DatastoreError as error:
            self._tell(error)

    def stay(self) -> None:
        """Have copies stay while this process lives; see :class:`~mlflow_pipes.ports.Resident`."""
        try:
            self.near.stay()
        except DatastoreError as error:
            self._tell(error)

    def _tell(self, error: DatastoreError) -> None:
        if not isinstance(error, NoRoomError):  # which is what a bound is for
            _tell(str(self.near.folder), str(error))


class _Copy:
    """A blob on its way to the near datastore; where that fails, it is forgotten.

    Args:
        tell: takes why.
    """

    def __init__(self, tell: Callable[[DatastoreError], None]) -> None:
        self._tell = tell
        self._writing: Writing | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it has not been forgotten."""
        return self._writing is not None

    def begin(self, make: Callable[[], Writing]) -> None:
        """Have it made."""
        try:
            self._writing = make()
        except DatastoreError as error:
            self._tell(error)

    def passing(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """Yield a stream's pieces, each written."""
        for piece in pieces:
            self.write(piece)
            yield piece

    def write(self, piece: bytes | memoryview) -> None:
        """Write the next piece."""
        if self._writing is not None:
            try:
                self._writing.write(piece)
            except DatastoreError as error:
                self._tell(error)
                self.drop()

    def keep(self, digest: Digest) -> bool:
        """Make it a blob; tell whether it is one."""
        if self._writing is not None:
            try:
                self._writing.keep(digest)
                return True
            except DatastoreError as error:
                self._tell(error)
        return False

    def drop(self) -> None:
        """Forget it, unless it was kept."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.drop()


def _tell(folder: str, why: str) -> None:
    if folder not in _told:
        _told.add(folder)
        _log.warning("the local tier %s cannot be used: %s", folder, why)


def _device(path: Path) -> int | None:
    """Return the file system of a folder that is there, or will be; None when that cannot be told."""
    for place in (path, *path.parents):
        try:
            return place.stat().st_dev
        except FileNotFoundError:
            continue
        except OSError:
            break
    return None
