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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import get_worker, secede

from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    FailureKind,
    TargetEvent,
)
from mlflow_pipes.targets.dask.in_attempt import environ_of
from mlflow_pipes.targets.station.messages import Cancel, Work, encode_events
from mlflow_pipes.targets.station.room import Room
from mlflow_pipes.targets.station.station import Station

_LOOK_EVERY_S = 1.0
_UNUSED_S = 600.0
_GATHER_S = 0.02  # each message costs the scheduler as much as a task
_log = logging.getLogger(__name__)


class _Bundle:
    """Attempts that one thread of the worker waits for.

    Attributes:
        open: those that have not ended.
        running: those that have begun and not ended.
        wake: something has happened.
    """

    def __init__(self, attempts: Sequence[AttemptId]) -> None:
        self.open = set(attempts)
        self.running: set[AttemptId] = set()
        self.wake = threading.Event()


class _Link:
    """A station in a Dask worker, and the threads of the worker that wait for its attempts.

    An attempt whose step uses the cluster waits for tasks that may need the very thread that waits for it. So that
    thread *makes way*: Dask counts it no more and has another one in its place. Until such an attempt has ended, so do
    threads whose attempts wait for room, which it has. No more attempts run at once for that.
    """

    def __init__(self, worker: Any, topic: str, setup: bytes) -> None:
        self.last_used = time.monotonic()
        self.waiting: dict[AttemptId, _Bundle] = {}
        folder = Path(worker.local_directory).parent / "mlflow_pipes"
        self._environ = environ_of(worker, topic)
        self._worker = worker
        self._topic = topic
        self.station = Station(
            pickle.loads(setup),
            folder,
            self._report,
            room=_room(worker),
            passing=Path(worker.local_directory) / topic,
            report_every_s=_GATHER_S,
        )

    def do(self, works: Sequence[Work]) -> None:
        """Do attempts, and wait until they have ended."""
        attempts = [work.assignment.attempt for work in works]
        bundle = _Bundle(attempts)
        self.waiting.update(dict.fromkeys(attempts, bundle))
        key = self._worker.get_current_task()
        makes_way = False
        try:
            for work in works:
                self._begin(work)
            while bundle.open and not self.station.is_closed:
                if not makes_way and self._should_make_way(bundle):
                    makes_way = True
                    with suppress(KeyError):  # the task was cancelled and is forgotten
                        secede()
                is_woken = bundle.wake.wait(_LOOK_EVERY_S)
                bundle.wake.clear()
                task = self._worker.state.tasks.get(key)
                if not is_woken and (task is None or task.state in {"cancelled", "resumed"}):
                    self._cancel(attempts)  # nobody waits for it any more
        finally:
            for attempt in attempts:
                self.waiting.pop(attempt, None)
                _on_cluster.get(self._worker.address, set()).discard(attempt)
            self.last_used = time.monotonic()

    def make_way(self, attempt: AttemptId) -> None:
        """Note that an attempt uses the cluster."""
        if attempt in self.waiting:
            _on_cluster.setdefault(self._worker.address, set()).add(attempt)
            for link in _links_of(self._worker):
                for bundle in list(link.waiting.values()):
                    bundle.wake.set()

    def _should_make_way(self, bundle: _Bundle) -> bool:
        using = _on_cluster.get(self._worker.address, set())
        return bool(using) and (not bundle.running or not bundle.open.isdisjoint(using))

    def _begin(self, work: Work) -> None:
        environ = {**self._environ, **work.assignment.environ}
        try:
            self.station.do(work._replace(assignment=replace(work.assignment, environ=environ)))
        except PipesError as error:
            self._report([_failed(work, error)])

    def _cancel(self, attempts: Sequence[AttemptId]) -> None:
        for attempt in attempts:
            self.station.do(Cancel(attempt))

    def _report(self, events: Sequence[TargetEvent]) -> None:
        _tell(self._worker, self._topic, events)
        for event in events:
            if not isinstance(event, AttemptStarted | AttemptSucceeded | AttemptFailed):
                continue
            bundle = self.waiting.get(event.attempt)
            if bundle is None:
                continue
            if isinstance(event, AttemptStarted):
                bundle.running.add(event.attempt)
            else:
                _on_cluster.get(self._worker.address, set()).discard(event.attempt)
                bundle.open.discard(event.attempt)
                bundle.running.discard(event.attempt)
                bundle.wake.set()


_links: dict[tuple[str, str], _Link] = {}
_on_cluster: dict[str, set[AttemptId]] = {}  # by worker: attempts whose steps use the cluster
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


def _links_of(worker: Any) -> list[_Link]:
    return [link for (_, address), link in list(_links.items()) if address == worker.address]


def make_way(topic: str, attempt: tuple[Any, ...], dask_worker: Any = None) -> None:
    """Have the thread that waits for an attempt make way for tasks of Dask's: the attempt's step uses the cluster."""
    link = _links.get((topic, dask_worker.address))
    if link is not None:
        link.make_way(AttemptId(*attempt))


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
