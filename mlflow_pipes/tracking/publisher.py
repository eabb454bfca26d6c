"""Delivery: drains the outbox into a destination, and keeps at it while there is a reason to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.ports import Datastore, Outbox
from mlflow_pipes.quick_dataclasses import dataclass

_logger = logging.getLogger(__name__)


class Destination(Protocol):
    """An MLflow that runs are mirrored into.

    Promise: ``deliver`` called again with what it was called with before, whole or in part, after any failure,
    changes nothing: delivery is at least once, its effect exactly once.
    """

    name: str
    batch: int

    def deliver(self, publications: Sequence[Publication], datastore: Datastore) -> list[Receipt]:
        """Show these runs, parents first. Receipts may be fewer, when it failed in the middle: call again.

        ``TrackingError`` when nothing can be delivered now.
        """
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class Publisher:
    """Tells a destination what it has not been told yet."""

    def __init__(self, outbox: Outbox, destination: Destination, datastore: Datastore) -> None:
        self._outbox = outbox
        self._destination = destination
        self._datastore = datastore

    def drain(self, stop: threading.Event | None = None) -> int:
        """Deliver all that is pending, in batches; return how many revisions of runs that were.

        Once *stop* is set no further batch is begun: those of a run of 100,000 steps take minutes.

        Raises:
            TrackingError: the destination cannot take it now; what was delivered before is remembered.
            LedgerError: the outbox cannot be used.
        """
        delivered = 0
        while stop is None or not stop.is_set():
            pending = self._outbox.pending(self._destination.name, self._destination.batch)
            if not pending:
                break
            receipts = self._destination.deliver(pending, self._datastore)
            self._outbox.delivered(self._destination.name, receipts)
            delivered += len(receipts)
            if not receipts:
                raise TrackingError(f"MLflow at {self._destination.name} took none of {len(pending)} runs")
        return delivered


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the background publisher keeps at it.

    Attributes:
        every_s: between looks at the outbox.
        idle_s: it ends when there has been nothing to do, and no live run, for so long.
        longest_wait_s: between tries when the destination does not answer; the first wait is *every_s*, then doubled.
        give_up_s: it ends when the destination has not answered for so long; the next run or ``pipes sync`` goes on.
    """

    every_s: float = 0.5
    idle_s: float = 10.0
    longest_wait_s: float = 30.0
    give_up_s: float = 600.0


def keep_publishing(
    publisher: Publisher,
    *,
    has_live_run: Callable[[], bool],
    pace: Pace = Pace(),  # noqa: B008 - a record
    stop: threading.Event | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
) -> bool:
    """Drain again and again; return True when all was delivered, False when it gave up on the destination."""
    pause = wait or (stop or threading.Event()).wait
    quiet_since = answered = monotonic()
    failures = 0
    while stop is None or not stop.is_set():
        try:
            if publisher.drain(stop):
                quiet_since = monotonic()
            answered = monotonic()
            failures = 0
        except TrackingError as error:
            failures += 1
            if failures == 1:
                _logger.warning("MLflow does not take runs now (%s); they are kept and tried again", error)
            if monotonic() - answered >= pace.give_up_s:
                _logger.warning("gave up on MLflow for now; the next run or `pipes sync` goes on")
                return False
            pause(min(pace.every_s * 2.0**failures, pace.longest_wait_s))
            continue
        if has_live_run():
            quiet_since = monotonic()
        elif monotonic() - quiet_since >= pace.idle_s:
            break
        pause(pace.every_s)
    return True
