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

    def drain(self) -> int:
        """Deliver all that is pending; return how many revisions of runs that were. Raises what a batch raises."""
        return sum(iter(self.deliver_batch, 0))

    def deliver_batch(self) -> int:
        """Deliver as much of what is pending as the destination takes at once; return how many revisions of runs.

        Raises:
            TrackingError: the destination cannot take it now; what was delivered before is remembered.
            LedgerError: the outbox cannot be used.
        """
        pending = self._outbox.pending(self._destination.name, self._destination.batch)
        if not pending:
            return 0
        receipts = self._destination.deliver(pending, self._datastore)
        self._outbox.delivered(self._destination.name, receipts)
        if not receipts:
            raise TrackingError(f"MLflow at {self._destination.name} took none of {len(pending)} runs")
        return len(receipts)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the background publisher does at a time, and how long it keeps at it.

    Attributes:
        share: of one processor's time, while a run is live: what is more is its steps'.
        every_s: between looks at the outbox.
        idle_s: it ends when there has been nothing to do, and no live run, for so long.
        longest_wait_s: between tries when the destination does not answer; the first wait is *every_s*, then doubled.
        give_up_s: it ends when the destination has not answered for so long; the next run or ``pipes sync`` goes on.
    """

    share: float = 0.2
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
    worked_s: Callable[[], float] = time.process_time,
    wait: Callable[[float], object] | None = None,
) -> bool:
    """Deliver again and again; return True when all was delivered, False when it gave up on the destination.

    Once *stop* is set no further batch is begun: those of a run of 100,000 steps take minutes.
    """
    pause = wait or (stop or threading.Event()).wait
    quiet_since = answered = monotonic()
    failures = 0
    while stop is None or not stop.is_set():
        began = worked_s()
        try:
            delivered = publisher.deliver_batch()
        except TrackingError as error:
            failures += 1
            if failures == 1:
                _logger.warning("MLflow does not take runs now (%s); they are kept and tried again", error)
            if monotonic() - answered >= pace.give_up_s:
                _logger.warning("gave up on MLflow for now; the next run or `pipes sync` goes on")
                return False
            pause(min(pace.every_s * 2.0**failures, pace.longest_wait_s))
            continue
        answered = monotonic()
        failures = 0
        is_live = has_live_run()
        if delivered or is_live:
            quiet_since = answered
        elif answered - quiet_since >= pace.idle_s:
            break
        if not delivered:
            pause(pace.every_s)
        elif is_live:
            pause((worked_s() - began) * (1.0 / pace.share - 1.0))
    return True
