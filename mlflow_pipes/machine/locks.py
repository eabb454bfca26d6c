"""One at a time, between threads and processes of this machine."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_pipes.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S = 0.02


def locked(file: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> int | None:
    """Return a descriptor that holds the lock of *file*, which is made when missing; None when others hold it.

    The kernel frees it when the descriptor is closed, at the latest when this process and who inherited it have ended.

    Args:
        file: in a folder that is there.
        how: as of flock(2); by default for this process alone, and without waiting.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def exclusive(file: Path, *, what: str, timeout_s: float) -> Iterator[int]:
    """Hold the lock of *file* for the time of the block; the kernel frees it when the process dies.

    The file itself stays: removing it would let two holders lock two different inodes. Yields the descriptor that holds
    it: a process that is handed that one holds the lock, too, for as long as it lives.

    Raises:
        WorldError: another process held the lock for *timeout_s* seconds; *what* names the work in the message.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    while (descriptor := locked(file)) is None:
        if time.monotonic() > deadline:
            raise WorldError(f"{what}: another process has been at it for {timeout_s:g} s (it holds {file}); try again")
        time.sleep(_POLL_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
