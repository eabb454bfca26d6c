"""What sessions of stations leave on a machine, and when it is removed: nothing grows for ever there."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.environments.shelf import Shelf
from mlflow_pipes.machine.locks import locked
from mlflow_pipes.ports import Sweepable

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

UNUSED_S = 7 * 86_400.0
"""Blobs that no letter asked for in so long are removed; environments and our packages after four times that."""

_EVERY_S = 86_400.0
_NEW_S = 60.0  # its process may be about to start
_LOCK = "lock"


def hold(session: Path) -> int | None:
    """Lock a session's folder until the descriptor is closed, at the latest when we end; None when somebody has it."""
    return locked(session / _LOCK)


def in_use(folder: Path) -> int:
    """Keep others from removing what sessions share, until the descriptor is closed; waits for who is removing."""
    descriptor = locked(folder / _LOCK, fcntl.LOCK_SH)
    assert descriptor is not None
    return descriptor


def clean(folder: Path, store: Datastore | None, *, unused_s: float = UNUSED_S, every_s: float = _EVERY_S) -> None:
    """Remove what killed sessions left and, when no session is alive, what nobody used for long.

    Args:
        folder: what sessions share.
        store: the blobs there.
        unused_s: how long that is.
        every_s: blobs are looked through at most once in so long.
    """
    _remove_dead_sessions(folder / "sessions")
    alone = locked(folder / _LOCK)
    if alone is None:
        return  # the last one cleans
    try:
        stamp = folder / "cleaned"
        now = time.time()
        if stamp.exists() and stamp.stat().st_mtime > now - every_s:
            return
        stamp.touch()
        if store is not None and isinstance(store, Sweepable):
            store.delete([digest for digest, written in store.blobs() if written < now - unused_s])
        for package in folder.glob("ours-*"):
            if package.stat().st_mtime < now - 4 * unused_s:
                shutil.rmtree(package, ignore_errors=True)
        shelf = Shelf(folder / "environments")
        for built in shelf.listing():
            if built.used_at < now - 4 * unused_s:
                shelf.remove(built.key)
    finally:
        os.close(alone)


def _remove_dead_sessions(sessions: Path) -> None:
    for session in sessions.iterdir():
        with suppress(OSError):
            if session.stat().st_mtime < time.time() - _NEW_S:
                _remove_if_dead(session)


def _remove_if_dead(session: Path) -> None:
    lock = hold(session)
    if lock is not None:
        shutil.rmtree(session, ignore_errors=True)
        os.close(lock)
