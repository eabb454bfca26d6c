"""Lines of Python's ``logging`` as events, where the user has not configured logging."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_pipes.machine.shared_context import shared_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORMAT = "%(levelname)s %(name)s: %(message)s"
_NOT_THE_USERS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class LineHandler(logging.Handler):
    """Gives each line of a record to *write*: from INFO for the user's own code, from WARNING for installed packages.

    It takes the place of ``logging.lastResort``, which Python asks when no handler is configured. So a user's
    ``logging.basicConfig(...)`` works as everywhere, and its lines then come by stderr.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT))
        self._write = write
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's lines."""
        if record.levelno < logging.WARNING and record.pathname.startswith(_NOT_THE_USERS):
            return
        try:
            text = self.format(record)
            if os.getpid() != self._pid:  # a process that the step forked must not write into our connection
                print(text, file=sys.stderr)
                return
            for line in text.splitlines():
                self._write(line)
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)


@contextmanager
def lines_to(write: Callable[[str], None]) -> Iterator[None]:
    """Send log lines to *write* while it lasts; those of level INFO are written inside of :func:`info_written`."""
    before = logging.lastResort
    logging.lastResort = LineHandler(write)
    try:
        yield
    finally:
        logging.lastResort = before


@shared_context
@contextmanager
def info_written() -> Iterator[None]:
    """Let the root logger's level be INFO while it lasts, if the user left it alone; each change asks all loggers."""
    root = logging.getLogger()
    level = root.level
    lowered = not root.handlers and level == logging.WARNING
    if lowered:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        if lowered and root.level == logging.INFO:
            root.setLevel(level)
