"""Files hashed before: a file that has not changed since is not read again."""

from __future__ import annotations

import os
import time
from typing import NamedTuple, Protocol

from mlflow_pipes.digests import Digest

# A file changed within so many nanoseconds of being hashed may change again without a new time (git's "racily clean"
# entries; the coarsest filesystems in use count in two seconds). Such a file is hashed again next time.
RACY_NS = 2_000_000_000


class FileState(NamedTuple):
    """What a file's status says of its content. ``ctime_ns`` changes with every write, whatever sets the mtime."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """Read it from ``os.stat``."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_settled(self, now_ns: int) -> bool:
        """Whether any change after *now_ns* would show in the state."""
        return max(self.mtime_ns, self.ctime_ns) + RACY_NS < now_ns


class FileMemo(Protocol):
    """File state -> digest. Entries may vanish, never lie: only settled states are ever put."""

    def get(self, state: FileState) -> Digest | None:
        """Return the digest that a file in this state had."""
        ...

    def put(self, state: FileState, digest: Digest) -> None:
        """Remember a digest."""
        ...


class MemoryFileMemo:
    """A memo that lives as long as its process."""

    def __init__(self) -> None:
        self._digests: dict[FileState, Digest] = {}

    def get(self, state: FileState) -> Digest | None:
        """Return the digest that a file in this state had."""
        return self._digests.get(state)

    def put(self, state: FileState, digest: Digest) -> None:
        """Remember a digest."""
        self._digests[state] = digest


def remember(memo: FileMemo | None, state: FileState, digest: Digest, *, now_ns: int | None = None) -> None:
    """Put a digest into the memo, if the file's state is settled."""
    if memo is not None and state.is_settled(time.time_ns() if now_ns is None else now_ns):
        memo.put(state, digest)
