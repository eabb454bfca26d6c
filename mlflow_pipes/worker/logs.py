"""Lines of Python's ``logging`` as events, where the user has not configured logging."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
    """Send log lines to *write* while it lasts; the root logger's level becomes INFO if the user left it alone."""
    root = logging.getLogger()
    before, level = logging.lastResort, root.level
    logging.lastResort = LineHandler(write)
    lowered = not root.handlers and level == logging.WARNING
    if lowered:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.lastResort = before
        if lowered and root.level == logging.INFO:
            root.setLevel(level)
