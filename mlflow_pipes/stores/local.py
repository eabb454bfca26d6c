"""A datastore in a folder of this machine."""

# Calls of os on text paths: a small blob costs 25 us, and pathlib would add half of that again.
# ruff: noqa: PTH105, PTH108, PTH116, PTH123, PTH208

from __future__ import annotations

import itertools
import mmap
import os
import secrets
import stat
import time
from contextlib import suppress
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlflow_pipes.digests import Digest, Hasher, digest_bytes
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError, DatastoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SMALL_BYTES = 64 * 1024  # written in one call, and not at all when the blob is there; read without mapping
PIECE_BYTES = 1024 * 1024  # hashed while still in the processor's cache from being written
REFRESH_S = 600.0  # a blob put again gets a new time at most this often: gc judges by age
ABANDONED_S = 24 * 3600.0  # nobody writes to a temporary file that long without touching it

_serial = itertools.count()
_verified: dict[str, tuple[int, int, int]] = {}  # path -> (inode, mtime_ns, size) whose bytes this process has hashed


class LocalDatastore:
    """Blobs as read-only files ``blobs/ab/cdef...`` below a folder. Picklable; safe for racing writers.

    A blob appears by renaming a temporary file of the same filesystem, so none is ever seen half-written. It is not
    forced to the disk: after a power failure a blob may be short or wrong, which reading detects. Bytes are verified
    on the first read by each process, and again when the file's inode, size or time has changed.

    Attributes:
        folder: absolute path; made on the first write.
    """

    __slots__ = ("_blobs", "_swept", "_temporary", "folder")

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self._blobs = f"{self.folder}/blobs"
        self._temporary = f"{self.folder}/incoming"
        self._swept = False

    def __reduce__(self) -> tuple[type[LocalDatastore], tuple[str]]:
        return LocalDatastore, (str(self.folder),)

    def __repr__(self) -> str:
        return f"LocalDatastore({str(self.folder)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalDatastore) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # -- writing

    def put(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Store a stream: hashed and written in one pass, visible only when whole."""
        if isinstance(pieces, tuple | list) and sum([memoryview(piece).nbytes for piece in pieces]) <= SMALL_BYTES:
            return self._put_small(b"".join(pieces))
        temporary, descriptor = self._create()
        try:
            try:
                digest = self._write(descriptor, pieces)
                written = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            self._publish(temporary, digest, written)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        return digest

    def _write(self, descriptor: int, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Write and hash a stream. Errors of the stream itself are its own, and pass through."""
        hasher = Hasher()
        waiting = bytearray()  # small pieces share a write
        for piece in pieces:
            view = memoryview(piece)
            if view.nbytes < SMALL_BYTES:
                waiting += view
                if len(waiting) >= PIECE_BYTES:
                    self._write_all(descriptor, hasher, memoryview(waiting))
                    waiting = bytearray()
                continue
            self._write_all(descriptor, hasher, memoryview(waiting))
            waiting = bytearray()
            self._write_all(descriptor, hasher, view.cast("B"))
        self._write_all(descriptor, hasher, memoryview(waiting))
        return hasher.digest()

    def _write_all(self, descriptor: int, hasher: Hasher, view: memoryview) -> None:
        for start in range(0, view.nbytes, PIECE_BYTES):
            rest = view[start : start + PIECE_BYTES]
            hasher.update(rest)
            self._write_rest(descriptor, rest)

    def _write_rest(self, descriptor: int, rest: memoryview) -> None:
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            raise self._unwritable(error) from error

    def _put_small(self, content: bytes) -> Digest:
        digest = digest_bytes(content)
        path = self._path(digest)
        try:
            status = os.stat(path)
            if status.st_size == digest.size_bytes:
                if time.time() - status.st_mtime > REFRESH_S:
                    os.utime(path)
                return digest
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._unwritable(error) from error
        temporary, descriptor = self._create()
        try:
            try:
                self._write_rest(descriptor, memoryview(content))
            finally:
                os.close(descriptor)
            self._publish(temporary, digest)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        return digest

    def _create(self) -> tuple[str, int]:
        """Open a temporary file that nobody else has."""
        path = f"{self._temporary}/{os.getpid()}-{next(_serial)}-{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        try:
            if not self._swept:
                self._swept = True
                self._remove_abandoned()
            try:
                return path, os.open(path, flags, 0o444)
            except FileNotFoundError:
                Path(self._temporary).mkdir(parents=True, exist_ok=True)
                return path, os.open(path, flags, 0o444)
        except OSError as error:
            raise self._unwritable(error) from error

    def _publish(self, temporary: str, digest: Digest, written: os.stat_result | None = None) -> None:
        """Make a file a blob; *written* is its state when its bytes were hashed as they were written."""
        path = self._path(digest)
        try:
            try:
                os.replace(temporary, path)
            except FileNotFoundError:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, path)
        except OSError as error:
            raise self._unwritable(error) from error
        if written is not None:
            _verified[path] = _state(written)  # a change since would be seen

    def _remove_abandoned(self) -> None:
        """Remove what writers that were killed left behind."""
        oldest = time.time() - ABANDONED_S
        with suppress(FileNotFoundError), os.scandir(self._temporary) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)

    # -- reading

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading, verified; a context manager."""
        file = self._open(digest)
        try:
            self._verify(file, digest)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def read(self, digest: Digest) -> memoryview:
        """Return a whole blob, verified.

        A blob above 64 KiB is mapped *privately*: the view is writable where the system allows it, what is written
        to it stays in this process and this view, and the file never changes.
        """
        with self._open(digest) as file:
            self._verify(file, digest)
            if digest.size_bytes <= SMALL_BYTES:
                file.seek(0)
                return memoryview(bytearray(file.read()))
            try:
                return memoryview(mmap.mmap(file.fileno(), digest.size_bytes, access=mmap.ACCESS_COPY))
            except OSError:  # larger than what may be promised as private memory
                return memoryview(mmap.mmap(file.fileno(), digest.size_bytes, access=mmap.ACCESS_READ))

    def open_unverified(self, digest: Digest) -> BinaryIO:
        """Open a blob for who verifies its bytes himself; a context manager."""
        return self._open(digest)

    def path(self, digest: Digest) -> Path:
        """Return the read-only file of a blob, verified."""
        with self._open(digest) as file:
            self._verify(file, digest)
        return Path(self._path(digest))

    def _open(self, digest: Digest) -> BinaryIO:
        try:
            return open(self._path(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise BlobMissingError(f"blob {digest} is not in datastore {self.folder}", digest) from None
        except OSError as error:
            raise self._unreadable(error) from error

    def _verify(self, file: BinaryIO, digest: Digest) -> None:
        try:
            status = os.fstat(file.fileno())
            if status.st_size != digest.size_bytes:
                raise self._corrupt(digest, f"it has {status.st_size} bytes")
            seen = _state(status)
            path = self._path(digest)
            if _verified.get(path) == seen:
                return
            hasher = Hasher()
            # Through a small buffer, not a mapping: verifying should not count in the process's resident memory.
            buffer = memoryview(bytearray(min(PIECE_BYTES, digest.size_bytes)))
            while count := file.readinto(buffer):  # type: ignore[attr-defined]
                hasher.update(buffer[:count])
        except OSError as error:
            raise self._unreadable(error) from error
        if hasher.digest() != digest:
            raise self._corrupt(digest, "its bytes have another hash")
        _verified[path] = seen

    # -- the whole

    def at(self, folder: str) -> LocalDatastore:
        """Return one like this in another folder, which may be another machine's."""
        return LocalDatastore(folder)

    def refresh(self, digests: Iterable[Digest]) -> None:
        """Have blobs count as written now, as far as they are there; those of the last minutes do anyway."""
        oldest = time.time() - REFRESH_S
        for digest in digests:
            path = self._path(digest)
            with suppress(OSError):
                if os.stat(path).st_mtime < oldest:
                    os.utime(path)

    def has(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are there with the right size."""
        found = set()
        for digest in digests:
            try:
                if os.stat(self._path(digest)).st_size == digest.size_bytes:
                    found.add(digest)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._unreadable(error) from error
        return found

    def delete(self, digests: Iterable[Digest]) -> None:
        """Remove blobs; those not there are ignored."""
        for digest in digests:
            try:
                os.unlink(self._path(digest))
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._unwritable(error) from error

    def blobs(self) -> Iterator[tuple[Digest, float]]:
        """Yield each blob with the time it was last written, in no order. The size is the file's."""
        try:
            shelves = sorted(os.listdir(self._blobs))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(error) from error
        for shelf in shelves:
            try:
                with os.scandir(f"{self._blobs}/{shelf}") as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            if stat.S_ISREG(status.st_mode):
                                yield Digest(shelf + entry.name, status.st_size), status.st_mtime
            except OSError as error:
                raise self._unreadable(error) from error

    def _path(self, digest: Digest) -> str:
        return f"{self._blobs}/{digest.hash[:2]}/{digest.hash[2:]}"

    def _corrupt(self, digest: Digest, how: str) -> BlobCorruptError:
        return BlobCorruptError(f"blob {digest} in datastore {self.folder} is corrupt: {how}", digest)

    def _unreadable(self, error: OSError) -> DatastoreError:
        return DatastoreError(
            f"cannot read datastore {self.folder}: {error.strerror or error}. Check that it is mounted and that you "
            f"may read it."
        )

    def _unwritable(self, error: OSError) -> DatastoreError:
        if error.errno in {ENOSPC, EDQUOT}:
            remedy = "Free space there, remove what is no longer needed with `pipes gc`, or configure another folder."
        elif isinstance(error, PermissionError) or error.errno == EROFS:
            remedy = "Give this user write permission there, or configure another folder."
        else:
            remedy = "Check that the folder is a folder and is mounted, or configure another one."
        return DatastoreError(f"cannot write to datastore {self.folder}: {error.strerror or error}. {remedy}")


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """Return what tells that a file is still the one that was hashed."""
    return status.st_ino, status.st_mtime_ns, status.st_size
