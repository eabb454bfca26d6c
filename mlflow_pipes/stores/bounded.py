"""A datastore in a folder of this machine that holds no more than so many bytes: what was not used for longest goes."""

# Text paths and calls of os, as in ``local``; and ``Writing`` is a part of ``BoundedDatastore``.
# ruff: noqa: PTH103, PTH108, PTH116, PTH120, SLF001

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Self

from mlflow_pipes.digests import Digest, Hasher
from mlflow_pipes.errors import DatastoreError, WorldError
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.stores.bound import Bound, NoRoomError, occupied_bytes
from mlflow_pipes.stores.last_user import join
from mlflow_pipes.stores.local import LocalDatastore

if TYPE_CHECKING:
    from types import TracebackType

_STEP_BYTES = 64 * 1024 * 1024  # room for a stream of unknown length is made in steps of at most this
_COUNTS_WITHIN_S = 10.0
_FETCHES_WITHIN_S = 60.0

_serial = itertools.count()


class BoundedDatastore(LocalDatastore):
    """Blobs in a folder of one user, shared by his processes on this machine; blobs may go at any moment.

    Whoever has a blob open or mapped keeps it. What is being written counts; what a killed process left of it does not.

    Args:
        folder: as of ``LocalDatastore``. It must belong to this user, and nobody else may write there.
        most_bytes: what all blobs together may occupy; less where less is free. One that needs more than half of it is
            not taken, so that none can drive out all others.
    """

    __slots__ = ("most_bytes",)

    def __init__(self, folder: str | os.PathLike[str], most_bytes: int) -> None:
        super().__init__(folder)
        self.most_bytes = most_bytes

    def __reduce__(self) -> tuple[type[BoundedDatastore], tuple[str, int]]:  # type: ignore[override]
        return BoundedDatastore, (str(self.folder), self.most_bytes)

    def __repr__(self) -> str:
        return f"BoundedDatastore({str(self.folder)!r}, {self.most_bytes})"

    # -- writing

    def put(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Store a stream. Raises ``NoRoomError`` when there is no room for it."""
        hasher = Hasher()
        with self.writing() as writing:
            for piece in pieces:
                view = memoryview(piece)
                if view.nbytes:
                    hasher.update(view.cast("B"))
                    writing.write(view)
            writing.keep(hasher.digest())
        return hasher.digest()

    def writing(self, size_bytes: int = 0) -> Writing:
        """Begin a blob that comes piece by piece; a context manager, which drops what was not kept.

        Args:
            size_bytes: how long it will be, as far as that is known.

        Raises:
            DatastoreError: it cannot be written; ``NoRoomError`` when there is no room for it.
        """
        return Writing(self, size_bytes)

    def used(self, digest: Digest) -> bool:
        """Have a blob count as used now; tell whether it is there."""
        path = self._path(digest)
        with suppress(OSError):
            status = os.stat(path)
            if status.st_size == digest.size_bytes:
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
                return True
        return False

    # -- reading

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading, verified; it counts as used."""
        self._check_owner()
        file = super().open(digest)
        self.used(digest)
        return file

    def read(self, digest: Digest) -> memoryview:
        """Return a whole blob, verified; it counts as used."""
        self._check_owner()
        content = super().read(digest)
        self.used(digest)
        return content

    # -- with others

    @contextmanager
    def fetching(self, digest: Digest) -> Iterator[None]:
        """Have one process at a time fetch a blob: those that wait find it there.

        Raises:
            DatastoreError: another has been at it for a minute, or the folder cannot be used.
        """
        shelf = f"fetching/{digest.hash[:2]}"
        with self._locked(shelf, what="fetching a blob to", timeout_s=_FETCHES_WITHIN_S):
            yield

    def stay(self) -> None:
        """Have blobs stay while this process lives; the last that called this removes all when it ends in peace.

        Raises:
            DatastoreError: the folder cannot be used.
        """
        self._check_owner(makes=True)
        try:
            join(self.folder / "users", self._remove_all)
        except OSError as error:
            raise self._unwritable(error) from error

    def _remove_all(self) -> None:
        for name in ("blobs", "incoming", "fetching"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("occupied", "users"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    @contextmanager
    def _bound(self) -> Iterator[Bound]:
        with self._locked("occupied", what="making room in", timeout_s=_COUNTS_WITHIN_S) as descriptor:
            yield Bound(descriptor, str(self.folder), self._blobs, self._temporary, self.most_bytes)

    @contextmanager
    def _locked(self, name: str, *, what: str, timeout_s: float) -> Iterator[int]:
        self._check_owner(makes=True)
        with ExitStack() as stack:
            try:
                lock = exclusive(self.folder / name, what=f"{what} {self.folder}", timeout_s=timeout_s)
                descriptor = stack.enter_context(lock)
            except WorldError as error:
                raise DatastoreError(str(error)) from error
            except OSError as error:
                raise self._unwritable(error) from error
            yield descriptor

    def _check_owner(self, *, makes: bool = False) -> None:
        """Raise ``DatastoreError`` where another user could change blobs after they were verified."""
        try:
            if makes:
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
            status = os.stat(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(error) from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise DatastoreError(
                f"{self.folder} belongs to another user, or others may write there: remove it, or name another place"
            )


class Writing:
    """A blob on its way into a bounded datastore: nobody sees it before it is kept.

    Its file has the size that room was made for, and is locked while it is written: so others see what it occupies,
    and that its writer lives. All methods but ``drop`` raise ``DatastoreError``.
    """

    def __init__(self, store: BoundedDatastore, size_bytes: int) -> None:
        self._store = store
        self._size_bytes = 0
        self._room_bytes = occupied_bytes(size_bytes)
        self._descriptor = -1
        self._path = f"{store._temporary}/{os.getpid()}-{next(_serial)}-{secrets.token_hex(4)}"
        self._check_size(size_bytes)
        try:
            with store._bound() as bound:
                bound.make_room(self._room_bytes)
                self._descriptor = _created(self._path)
                os.ftruncate(self._descriptor, self._room_bytes)
        except OSError as error:
            self.drop()
            raise store._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Write the next piece."""
        view = memoryview(piece)
        if not view.nbytes:
            return
        rest = view.cast("B")
        try:
            if self._size_bytes + rest.nbytes > self._room_bytes:
                self._make_room(self._size_bytes + rest.nbytes)
            self._size_bytes += rest.nbytes
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise self._store._unwritable(error) from error

    def keep(self, digest: Digest) -> None:
        """Make it a blob, whose digest the caller has seen to; it counts as used."""
        if self._store.used(digest):
            self.drop()  # another was faster
            return
        try:
            self._give_back(occupied_bytes(self._size_bytes))
            os.ftruncate(self._descriptor, self._size_bytes)
            now = time.time_ns()
            os.utime(self._descriptor, ns=(now, now))
            self._store._publish(self._path, digest, os.fstat(self._descriptor))
        except OSError as error:
            raise self._store._unwritable(error) from error
        self._close()

    def drop(self) -> None:
        """Forget it, unless it was kept."""
        if self._descriptor < 0:
            return
        with suppress(OSError, DatastoreError), self._store._bound() as bound:  # else the count is too large
            os.unlink(self._path)
            bound.give_back(self._room_bytes)
        with suppress(OSError):
            os.unlink(self._path)
        self._close()

    def _make_room(self, least_bytes: int) -> None:
        self._check_size(least_bytes)
        step = min(_STEP_BYTES, self._store.most_bytes // 16)
        wanted = occupied_bytes(max(least_bytes, min(self._room_bytes + step, self._store.most_bytes // 2)))
        with self._store._bound() as bound:
            bound.make_room(wanted - self._room_bytes)
            os.ftruncate(self._descriptor, wanted)
        self._room_bytes = wanted

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._store.most_bytes // 2:
            raise NoRoomError(f"{size_bytes:,} bytes are more than half of what {self._store.folder} may hold")

    def _give_back(self, room_bytes: int) -> None:
        """Keep so much of the room. Whoever counts the files meanwhile must not see one half of that."""
        if room_bytes < self._room_bytes:
            with self._store._bound() as bound:
                os.ftruncate(self._descriptor, room_bytes)
                bound.give_back(self._room_bytes - room_bytes)
            self._room_bytes = room_bytes

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _created(path: str) -> int:
    """Return a new file, open and locked."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o444)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, flags, 0o444)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor
