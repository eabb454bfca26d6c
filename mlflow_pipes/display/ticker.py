"""A thread that draws, so that the engine's need not."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
_SHARE = 0.05  # of the time at most goes into drawing: it competes with the engine for the interpreter


class Ticker:
    """Calls *draw* every *interval_s* from its own daemon thread, less often where drawing is slow.

    A draw that raises ends the drawing, not the run; it is logged once.
    """

    def __init__(self, draw: Callable[[], None], *, first_s: float, interval_s: float) -> None:
        self._draw = draw
        self._first_s = first_s
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pipes-display", daemon=True)

    def start(self) -> None:
        """Begin; the first draw comes after *first_s*, so that quick runs are never drawn at all."""
        self._thread.start()

    def stop(self) -> None:
        """End the drawing and wait for a draw that is under way. Idempotent."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        wait_s = self._first_s
        while not self._stop.wait(wait_s):
            began = time.perf_counter()
            try:
                self._draw()
            except Exception:  # noqa: BLE001 - whatever it is, the run is worth more than its view
                _log.warning("the terminal view stopped because it failed; the run goes on", exc_info=True)
                return
            wait_s = max(self._interval_s, (time.perf_counter() - began) / _SHARE)
