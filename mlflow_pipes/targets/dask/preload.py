"""Preloaded by the workers of a LocalCluster that is made for a run: Ctrl-C is the orchestrator's to decide about."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(_worker: Any) -> None:
    """Ignore the terminal's SIGINT, which reaches all processes that were started from it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # steps may send it to their processes
