"""What runs in a Dask worker's process: a station for each orchestrator's target that has work here.

The work itself is done in child processes of the station's, which can be killed; a thread of the Dask worker waits for
each attempt, so that Dask knows how busy the worker is. Everything that is to be told goes as events of a topic.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed import get_worker

from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.attempt import AttemptFailed, AttemptId, AttemptSucceeded, Failure, FailureKind, TargetEvent
from mlflow_pipes.targets.station.messages import Cancel, Work, encode_events
from mlflow_pipes.targets.station.station import Station

_LOOK_EVERY_S = 1.0
_UNUSED_S = 600.0
_log = logging.getLogger(__name__)


class _Link:
    """A station in a Dask worker, and the threads of the worker that wait for its attempts."""

    def __init__(self, worker: Any, topic: str, setup: bytes) -> None:
        self.last_used = time.monotonic()
        self.waiting: dict[AttemptId, threading.Event] = {}
        self._worker = worker
        self._topic = topic
        self.station = Station(
            pickle.loads(setup),
            Path(worker.local_directory).parent / "mlflow_pipes",
            self._report,
            slots=worker.state.nthreads,
            gpus=int(worker.state.total_resources.get("GPU", 0)),
        )

    def do(self, work: Work) -> None:
        attempt = work.assignment.attempt
        ended = self.waiting[attempt] = threading.Event()
        key = self._worker.get_current_task()
        try:
            self.station.do(work)
            while not ended.wait(_LOOK_EVERY_S) and not self.station.is_closed:
                task = self._worker.state.tasks.get(key)
                if task is None or task.state in {"cancelled", "resumed"}:  # nobody waits for it any more
                    self.station.do(Cancel(attempt))
        finally:
            self.waiting.pop(attempt, None)
            self.last_used = time.monotonic()

    def _report(self, events: Sequence[TargetEvent]) -> None:
        _tell(self._worker, self._topic, events)
        for event in events:
            if isinstance(event, AttemptSucceeded | AttemptFailed):
                waiting = self.waiting.get(event.attempt)
                if waiting is not None:
                    waiting.set()


_links: dict[tuple[str, str], _Link] = {}
_making = threading.Lock()


def attempt(topic: str, setup: bytes, message: bytes) -> None:
    """Do an attempt, as a task of a Dask worker. Answers by events of *topic*; returns when it has ended."""
    worker = get_worker()
    work = pickle.loads(message)
    try:
        _link(worker, topic, setup).do(work)
    except PipesError as error:
        now = time.time()
        failure = Failure(FailureKind.WORLD, str(error), (type(error).__name__,))
        failed = AttemptFailed(work.assignment.attempt, failure, now, now, host=socket.gethostname())
        _tell(worker, topic, [failed])


def stop(topic: str, attempts: Sequence[AttemptId], dask_worker: Any = None) -> list[AttemptId]:
    """Have attempts stopped; return those that are under way here, which will be answered."""
    link = _links.get((topic, dask_worker.address))
    if link is None or link.station.is_closed:
        return []
    known = [attempt for attempt in attempts if attempt in link.waiting]
    for one in attempts:
        link.station.do(Cancel(one))
    return known


async def leave(topic: str, dask_worker: Any = None) -> None:
    """End the station of a target that was closed."""
    link = _links.pop((topic, dask_worker.address), None)
    if link is not None:
        await asyncio.to_thread(link.station.close)


def _link(worker: Any, topic: str, setup: bytes) -> _Link:
    with _making:
        link = _links.get((topic, worker.address))
        if link is None or link.station.is_closed:
            _end_unused()
            link = _links[topic, worker.address] = _Link(worker, topic, setup)
        link.last_used = time.monotonic()
        return link


def _end_unused() -> None:
    """End the stations of orchestrators that were killed."""
    for key, link in list(_links.items()):
        if not link.waiting and link.last_used < time.monotonic() - _UNUSED_S:
            del _links[key]
            threading.Thread(target=link.station.close, daemon=True).start()


def _tell(worker: Any, topic: str, events: Sequence[TargetEvent]) -> None:
    try:
        worker.log_event(topic, {"worker": worker.address, "events": encode_events(events)})
    except Exception:  # noqa: BLE001 - the worker is being closed; the orchestrator hears that from the scheduler
        _log.warning("%d events of %s could not be told", len(events), topic, exc_info=True)
