"""Observers of a run: told what happens, and dropped when they fail, so that no display can fail a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mlflow_pipes.model.attempt import TargetEvent
from mlflow_pipes.model.run import Record
from mlflow_pipes.ports import RunObserver

_log = logging.getLogger(__name__)


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        self._observers = list(observers)

    def recorded(self, records: Sequence[Record]) -> None:
        """Tell all that the records are in the ledger."""
        self._tell(lambda observer: observer.recorded(records))

    def seen(self, event: TargetEvent) -> None:
        """Tell all of an event that the ledger does not hold."""
        self._tell(lambda observer: observer.seen(event))

    def _tell(self, call: Callable[[RunObserver], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except Exception:  # noqa: BLE001 - whatever a display does wrong, the run goes on
                _log.exception("the observer %s failed and sees no more of this run", type(observer).__name__)
                self._observers.remove(observer)
