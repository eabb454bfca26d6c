"""What runs in a Dask worker's process: a station for each orchestrator's target that has work here; they share room.

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
from mlflow_pipes.targets.station.room import Room
from mlflow_pipes.targets.station.station import Station

_LOOK_EVERY_S = 1.0
_UNUSED_S = 600.0
_GATHER_S = 0.02  # each message costs the scheduler as much as a task
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
            room=_room(worker),
            report_every_s=_GATHER_S,
        )

    def do(self, works: Sequence[Work]) -> None:
        """Do attempts, and wait until they have ended."""
        attempts = [work.assignment.attempt for work in works]
        self.waiting.update((attempt, threading.Event()) for attempt in attempts)
        key = self._worker.get_current_task()
        try:
            for work in works:
                self._begin(work)
            for attempt in attempts:
                while not self.waiting[attempt].wait(_LOOK_EVERY_S) and not self.station.is_closed:
                    task = self._worker.state.tasks.get(key)
                    if task is None or task.state in {"cancelled", "resumed"}:  # nobody waits for it any more
                        self._cancel(attempts)
        finally:
            for attempt in attempts:
                self.waiting.pop(attempt, None)
            self.last_used = time.monotonic()

    def _begin(self, work: Work) -> None:
        try:
            self.station.do(work)
        except PipesError as error:
            self._report([_failed(work, error)])

    def _cancel(self, attempts: Sequence[AttemptId]) -> None:
        for attempt in attempts:
            self.station.do(Cancel(attempt))

    def _report(self, events: Sequence[TargetEvent]) -> None:
        _tell(self._worker, self._topic, events)
        for event in events:
            if isinstance(event, AttemptSucceeded | AttemptFailed):
                waiting = self.waiting.get(event.attempt)
                if waiting is not None:
                    waiting.set()


_links: dict[tuple[str, str], _Link] = {}
_rooms: dict[str, Room] = {}
_making = threading.Lock()


def work(topic: str, setup: bytes, messages: Sequence[bytes]) -> None:
    """Do attempts, as one task of a Dask worker. Answers by events of *topic*; returns when all have ended."""
    worker = get_worker()
    works = [pickle.loads(message) for message in messages]
    try:
        _link(worker, topic, setup).do(works)
    except PipesError as error:
        _tell(worker, topic, [_failed(work, error) for work in works])


def stop(topic: str, setup: bytes, attempts: Sequence[AttemptId], dask_worker: Any = None) -> list[AttemptId]:
    """Have attempts stopped, also those that are still to come; return those here, which will be answered."""
    link = _link(dask_worker, topic, setup)
    known = [attempt for attempt in attempts if attempt in link.waiting]
    for one in attempts:
        link.station.do(Cancel(one))
    return known


async def leave(topic: str, dask_worker: Any = None) -> None:
    """End the station of a target that was closed."""
    link = _links.pop((topic, dask_worker.address), None)
    if link is not None:
        await asyncio.to_thread(link.station.close)


def _failed(work: Work, error: PipesError) -> AttemptFailed:
    now = time.time()
    failure = Failure(FailureKind.WORLD, str(error), (type(error).__name__,))
    return AttemptFailed(work.assignment.attempt, failure, now, now, host=socket.gethostname())


def _link(worker: Any, topic: str, setup: bytes) -> _Link:
    with _making:
        link = _links.get((topic, worker.address))
        if link is None or link.station.is_closed:
            _end_unused()
            link = _links[topic, worker.address] = _Link(worker, topic, setup)
        link.last_used = time.monotonic()
        return link


def _room(worker: Any) -> Room:
    """Return the room of a worker, which all orchestrators share that have work here."""
    room = _rooms.get(worker.address)
    if room is None:
        gpus = int(worker.state.total_resources.get("GPU", 0))
        room = _rooms[worker.address] = Room(worker.state.nthreads, gpus)
    return room


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
