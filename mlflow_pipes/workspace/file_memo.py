"""Digests of input files, remembered between runs by what the file system says of them."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from mlflow_pipes.content import FileState
from mlflow_pipes.digests import Digest


class SqliteFileMemo:
    """A ``content.FileMemo`` in a small SQLite file. It is a cache: when it cannot be used, files are hashed again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._broken = False

    def get(self, state: FileState) -> Digest | None:
        """Return the digest that a file in this state had."""
        row = self._run("SELECT hash FROM files WHERE state = ?", (_text(state),))
        return Digest(row[0], state.size_bytes) if row else None

    def put(self, state: FileState, digest: Digest) -> None:
        """Remember a digest."""
        self._run("INSERT OR REPLACE INTO files VALUES (?, ?)", (_text(state), digest.hash))

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, sql: str, parameters: tuple[str, ...]) -> tuple[str] | None:
        with self._lock:
            if self._broken:
                return None
            try:
                self._connection = self._connection or self._open()
                row: tuple[str] | None = self._connection.execute(sql, parameters).fetchone()
            except sqlite3.Error:
                # Locked for too long, damaged, read-only: all that is lost is time. One try a process.
                self._broken = True
                return None
            return row

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=5.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE IF NOT EXISTS files (state TEXT PRIMARY KEY, hash TEXT) WITHOUT ROWID")
        return connection


def _text(state: FileState) -> str:
    # Text, because device and inode numbers may exceed SQLite's signed integers.
    return ":".join(map(str, state))
