"""Signs of life of a run whose loop is inside a step: steps on ``inline`` run in the loop's own thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_pipes.errors import PipesError
from mlflow_pipes.ports import Ledger

EVERY_S = 10.0
"""A third of the ledger's lease."""

_log = logging.getLogger(__name__)


@contextmanager
def pulse(ledger: Ledger, run_id: str) -> Iterator[None]:
    """Keep the run's claims alive from a thread of its own, so that no other run takes them while a step is long."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(EVERY_S):
            try:
                ledger.heartbeat(run_id, time.time())
            except PipesError as error:  # the loop will meet the same, and tell
                _log.warning("no sign of life could be given: %s", error)

    thread = threading.Thread(target=beat, name="pipes-pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
