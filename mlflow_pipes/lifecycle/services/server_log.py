"""The service's log: one file, bounded in size, that also takes whatever the process prints."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 10_000_000


class _BoundedHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr, which is the log file; keeps one older file when it grows too large."""

    def __init__(self, file: Path, max_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._max_bytes = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        try:
            if self._file.stat().st_size > self._max_bytes:
                # Copy and truncate: stderr stays open on the file in append mode.
                shutil.copyfile(self._file, self._file.with_suffix(".1.txt"))
                os.truncate(self._file, 0)
        except OSError:
            pass  # a removed log must not stop the service


def log_to(file: Path, *, service: str, version: str, max_bytes: int = MAX_BYTES) -> logging.Logger:
    """Return the service's logger; logging of all libraries goes to the same file."""
    handler = _BoundedHandler(file, max_bytes)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)  # noqa: FBT003
    return logging.getLogger(f"{service}/{version}")
