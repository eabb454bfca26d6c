"""Ctrl-C: the first one cancels the run cleanly, the second ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def cancel_on_interrupt(cancel: Callable[[str], None], *, in_this_thread: bool) -> Iterator[None]:
    """Call *cancel* on SIGINT and SIGTERM instead of raising; a second SIGINT raises ``KeyboardInterrupt``.

    Args:
        cancel: takes the reason; must be safe in a signal handler.
        in_this_thread: steps run in this very thread, so the first SIGINT must also break into their code.

    Outside the main thread, where Python delivers no signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        cancel("cancelled by Ctrl-C" if number == signal.SIGINT else "cancelled by SIGTERM")
        if number == signal.SIGINT and (interrupts > 1 or in_this_thread):
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
