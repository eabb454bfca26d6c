"""How much the files of a bounded datastore occupy, and which make way for new ones."""

# Text paths and calls of os, as in ``local``.
# ruff: noqa: PTH108, PTH208

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from mlflow_pipes.errors import DatastoreError

_BLOCK_BYTES = 4096  # what a file occupies is counted in these
_SPARE = 10  # a tenth of the bound is made free at once: looking through the folder costs as much as it has blobs


class Held(NamedTuple):
    """A blob that can go."""

    used_at_ns: int
    occupied_bytes: int
    path: str


def least_recently_used(held: Iterable[Held], excess_bytes: int) -> Sequence[Held]:
    """Return which blobs to remove so that *excess_bytes* are free: those that were not used for longest."""
    doomed = []
    for one in sorted(held):
        if excess_bytes <= 0:
            break
        doomed.append(one)
        excess_bytes -= one.occupied_bytes
    return doomed


def occupied_bytes(size_bytes: int) -> int:
    """Return what a file of so many bytes occupies."""
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


class NoRoomError(DatastoreError):
    """A blob is larger than what a bounded datastore may hold, or others fill it."""


class Bound:
    """What the files of a bounded folder occupy, while nobody else changes it.

    The count stands in the locked file. It is never too small: files are counted before they are written. It may be too
    large, after a process was killed, say; so before anything goes, the files themselves are asked.

    Args:
        descriptor: of the locked file.
        folder: whose file system this is.
        blobs: the folder of shelves of blobs, which may go.
        temporary: the folder of files that are being written, each locked by who writes it.
        most_bytes: what all may occupy.
    """

    def __init__(self, descriptor: int, folder: str, blobs: str, temporary: str, most_bytes: int) -> None:
        self._descriptor = descriptor
        self._folder = folder
        self._blobs = blobs
        self._temporary = temporary
        self._most_bytes = most_bytes

    def make_room(self, more_bytes: int) -> None:
        """Count so many bytes as occupied; blobs go for that.

        Raises:
            NoRoomError: others fill it with what they write just now.
            DatastoreError: its file system is full, with what is not ours.
        """
        told = os.pread(self._descriptor, 32, 0)
        occupied = int(told) if told.isdigit() else None
        if occupied is None or occupied + more_bytes > self._most_bytes or more_bytes > self._free_bytes():
            occupied = self._make_free(more_bytes)
        self._tell(occupied + more_bytes)

    def give_back(self, bytes_: int) -> None:
        """Count so many bytes as free."""
        told = os.pread(self._descriptor, 32, 0)
        if told.isdigit():
            self._tell(max(0, int(told) - bytes_))

    def _make_free(self, more_bytes: int) -> int:
        """Remove blobs until there is room; return what is occupied then."""
        arriving = sum(self._arriving())
        held = list(self._held())
        occupied = arriving + sum(one.occupied_bytes for one in held)
        if arriving + more_bytes > self._most_bytes:
            raise NoRoomError(f"there is no room for {more_bytes:,} bytes in {self._folder}: others are being written")
        excess = max(occupied + more_bytes - self._most_bytes, more_bytes - self._free_bytes())
        if excess > 0:
            for one in least_recently_used(held, excess + self._most_bytes // _SPARE):
                with suppress(FileNotFoundError):
                    os.unlink(one.path)
                occupied -= one.occupied_bytes
        if more_bytes > self._free_bytes():
            raise DatastoreError(f"no {more_bytes:,} bytes are free for {self._folder}, although what could go is gone")
        return occupied

    def _held(self) -> Iterator[Held]:
        with suppress(FileNotFoundError):
            for shelf in os.listdir(self._blobs):
                with suppress(FileNotFoundError), os.scandir(f"{self._blobs}/{shelf}") as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            if stat.S_ISREG(status.st_mode):
                                yield Held(status.st_atime_ns, occupied_bytes(status.st_size), entry.path)

    def _arriving(self) -> Iterator[int]:
        """Yield what files that are being written occupy; remove those whose writer was killed."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._temporary):
                path = f"{self._temporary}/{name}"
                with suppress(FileNotFoundError):
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(path)
                    except BlockingIOError:
                        yield occupied_bytes(os.fstat(descriptor).st_size)
                    finally:
                        os.close(descriptor)

    def _free_bytes(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _tell(self, occupied: int) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d" % occupied, 0)
