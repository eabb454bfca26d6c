"""What processes of this machine use together, and the last of them removes."""

from __future__ import annotations

import atexit
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlflow_pipes.machine.locks import locked

_used: set[Path] = set()
_joining = threading.Lock()


def join(lock: Path, remove: Callable[[], None]) -> None:
    """Count this process among those who use something, until it ends; the last one has it removed.

    A process that is killed removes nothing, and does not count any more.

    Args:
        lock: a file of theirs; removed at last.
        remove: called when this process ends in peace, and no other uses it.

    Raises:
        OSError: the file cannot be made or locked.
    """
    with _joining:
        if lock in _used:
            return
        descriptor = _held(lock)
        _used.add(lock)
    process = os.getpid()

    def leave() -> None:
        if os.getpid() != process:
            return  # a fork of it
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove()
            lock.unlink(missing_ok=True)
        os.close(descriptor)

    atexit.register(leave)


def _held(lock: Path) -> int:
    """Return a shared lock of a file that is still there when it is held."""
    while True:
        lock.parent.mkdir(mode=0o700, exist_ok=True)  # who was last may be removing it
        descriptor = locked(lock, fcntl.LOCK_SH)
        assert descriptor is not None  # it waited
        with suppress(FileNotFoundError):
            if os.path.samestat(lock.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)
