"""``Station``: attempts for an orchestrator elsewhere, in worker processes of this machine that can be killed."""

from __future__ import annotations

import logging
import os
import pickle
import selectors
import shutil
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.errors import TargetError, WorldError
from mlflow_pipes.model.attempt import AttemptFailed, AttemptId, AttemptSucceeded, Failure, FailureKind
from mlflow_pipes.ports import Resident
from mlflow_pipes.snapshot.unpacking import Unpacked, unpack
from mlflow_pipes.targets.station.messages import Cancel, Message, Work, disagreement, other_versions
from mlflow_pipes.targets.station.pools import Pool
from mlflow_pipes.targets.station.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_pipes.environments import Environments
    from mlflow_pipes.model.attempt import Assignment, TargetEvent
    from mlflow_pipes.targets.station.messages import Setup

IDLE_S = 60.0
"""A pool without work is kept so long."""

_MOST_IDLE_POOLS = 2
_MOST_TOMBSTONES = 10_000
_ASKS_AGAIN_S = 0.5  # for what another process has
_OUTCOMES = (AttemptSucceeded, AttemptFailed)
_log = logging.getLogger(__name__)


class Station:
    """Does what it is told in messages, in pools of worker processes of its own, and reports events.

    Its work is that of :class:`~mlflow_pipes.targets.local.LocalTarget`: an attempt that is cancelled or takes too
    long is killed with all that it started, and when this process ends, however it does, so do all of them.

    Args:
        setup: what its orchestrator says of all attempts.
        folder: where code is unpacked and environments are built, which stay; of this machine.
        passing: where attempts have their folders and inputs are laid out; removed at the end. By default *folder*.
        report: takes events, in order, several at a time; called from the station's own thread.
        slots: how many attempts run at once, and the sum of their ``cpus``.
        gpus: how many graphics processors they can have.
        room: instead of these two, what it shares with other stations of this process.
        idle_s: a pool without work is kept so long.
        report_every_s: while there is more to do, events are gathered for so long.

    Raises:
        TargetError: the orchestrator's versions do not agree with those here.
    """

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        report: Callable[[Sequence[TargetEvent]], None],
        *,
        slots: int = 1,
        gpus: int = 0,
        room: Room | None = None,
        passing: Path | None = None,
        idle_s: float = IDLE_S,
        report_every_s: float = 0.0,
    ) -> None:
        differing = disagreement(setup)
        if differing:
            raise TargetError(f"target {setup.name!r}: {socket.gethostname()} cannot run this run's steps: {differing}")
        self._setup = setup
        self._folder = folder
        self._passing = passing
        self._report = report
        self._room = room or Room(slots, gpus)
        self._idle_s = idle_s
        self._report_every_s = report_every_s
        self._reported_at = -report_every_s
        self._datastore = pickle.loads(setup.datastore)
        if isinstance(self._datastore, Resident):
            self._datastore.stay()
        self._taking = threading.Lock()
        self._unpacking = threading.Lock()
        self._unpacked: dict[bytes, Unpacked] = {}
        self._environments: Environments | None = None
        self._pools: dict[bytes, Pool] = {}
        self._inbox: deque[tuple[Message, Unpacked | None]] = deque()
        self._waiting: deque[tuple[Work, Unpacked]] = deque()
        self._running: dict[AttemptId, tuple[Pool, float, tuple[int, ...]]] = {}
        self._tombstones: dict[AttemptId, None] = {}
        self._events: list[TargetEvent] = []
        self._is_closing = False
        for place in (folder / "code", *((passing or folder) / name for name in ("checkout", "scratch"))):
            place.mkdir(parents=True, exist_ok=True)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name=f"station of {setup.name}", daemon=True)
        self._thread.start()

    # --- for others, from any thread ------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._is_closing

    def take(self, message: bytes) -> None:
        """Take a message. Unpacks the code that it needs, which may take a while the first time.

        Raises:
            TargetError: it is closed.
            DatastoreError: the code cannot be unpacked.
            DeclarationError, WorldError: the environment that it needs cannot be had here, or what is installed here is
                not what the step's key says; tells why.
        """
        self.do(pickle.loads(message))

    def do(self, message: Message) -> None:
        """Take a message that was decoded; as :meth:`take`."""
        unpacked = None
        if isinstance(message, Work):
            unpacked = self._unpack(message.snapshot)
            message = self._with_environment(message)
        with self._taking:
            if self._is_closing:
                raise TargetError(f"the station of target {self._setup.name!r} is closed")
            self._inbox.append((message, unpacked))
        self._wake()

    def close(self) -> None:
        """Kill what runs, answer for it, and wait until nothing is left. Idempotent."""
        with self._taking:
            self._is_closing = True
        self._wake()
        self._thread.join()

    def _with_environment(self, work: Work) -> Work:
        """Return work with how the Python of its environment is started on this machine."""
        environment = work.assignment.environment
        if environment is None:
            _check_versions(work.assignment)
            return work
        from mlflow_pipes.environments import Environments

        with self._unpacking:
            if self._environments is None:
                self._environments = Environments(self._folder / "environments", self._folder)
            here = self._environments.from_elsewhere(environment)
        return work._replace(assignment=replace(work.assignment, environment=here))

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._is_closing:
                self._wait()
                self._take_inbox()
                for pool in list(self._pools.values()):
                    pool.target.poll()
                self._begin_waiting()
                self._flush()
                self._end_idle_pools()
        except Exception:  # noqa: BLE001 - whatever it is, what runs here must be answered for
            _log.exception("the station of target %r failed; what it was given is lost", self._setup.name)
        finally:
            self._end()

    def _end(self) -> None:
        with self._taking:
            self._is_closing = True
        self._take_inbox()
        while self._waiting:
            work, _ = self._waiting.popleft()
            self._fail(work.assignment.attempt, FailureKind.CANCELLED, "the station was closed before it began")
        self._room.leave(self)
        for pool in list(self._pools):
            self._drop(pool)
        if self._passing is not None:
            shutil.rmtree(self._passing, ignore_errors=True)
        self._flush()
        self._selector.close()
        writer, self._wake_write = self._wake_write, -1
        os.close(self._wake_read)
        os.close(writer)

    def _wait(self) -> None:
        now = time.monotonic()
        due = [deadline for pool in self._pools.values() if (deadline := pool.target.next_deadline()) is not None]
        due += [pool.idle_since + self._idle_s for pool in self._pools.values() if not pool.running]
        due += [self._reported_at + self._report_every_s] if self._events else []
        due += [now + _ASKS_AGAIN_S] if self._waiting and self._room.waits_for_others else []
        self._selector.select(max(0.0, min(due) - now) if due else None)
        with suppress(BlockingIOError):
            while len(os.read(self._wake_read, 4096)) == 4096:
                pass

    def _take_inbox(self) -> None:
        while self._inbox:
            message, unpacked = self._inbox.popleft()
            if isinstance(message, Cancel):
                self._cancel(message.attempt)
            elif message.assignment.attempt in self._tombstones:
                self._fail(message.assignment.attempt, FailureKind.CANCELLED, "cancelled before it began")
            else:
                assert unpacked is not None
                self._waiting.append((message, unpacked))

    def _cancel(self, attempt: AttemptId) -> None:
        for entry in self._waiting:
            if entry[0].assignment.attempt == attempt:
                self._waiting.remove(entry)
                self._fail(attempt, FailureKind.CANCELLED, "cancelled before it began")
                return
        running = self._running.get(attempt)
        if running is not None:
            running[0].target.cancel(attempt)
            return
        self._tombstones[attempt] = None  # it may be on its way
        if len(self._tombstones) > _MOST_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _begin_waiting(self) -> None:
        """Begin what there is room for, in the order in which it came."""
        while self._waiting:
            work, unpacked = self._waiting[0]
            assignment = work.assignment
            count, room = len(assignment.gpus), self._room
            if count > room.gpus or assignment.cpus > room.slots:
                self._waiting.popleft()
                has = f"{socket.gethostname()}, which it was sent to, has {room.slots} and {room.gpus}"
                why = f"asks for cpus={assignment.cpus:g} and gpus={count}; {has}"
                self._fail(assignment.attempt, FailureKind.WORLD, why)
                continue
            try:
                gpus = room.take(self, assignment.cpus, count, self._wake)
            except (OSError, WorldError) as error:
                self._waiting.popleft()
                self._fail(assignment.attempt, FailureKind.WORLD, f"on {socket.gethostname()}: {error}")
                continue
            if gpus is None:
                return
            self._waiting.popleft()
            self._begin(work, unpacked, gpus)
        self._room.leave(self)

    def _begin(self, work: Work, unpacked: Unpacked, gpus: tuple[int, ...]) -> None:
        attempt = work.assignment.attempt
        pool = self._pool(work.snapshot, unpacked)
        self._running[attempt] = (pool, work.assignment.cpus, gpus)
        try:
            pool.begin(work, gpus)
        except TargetError as error:
            self._on_event(pool, self._failed(attempt, FailureKind.WORLD, str(error)))
            self._drop(work.snapshot)  # the next attempt may have more luck with another one

    def _pool(self, snapshot: bytes, unpacked: Unpacked) -> Pool:
        pool = self._pools.get(snapshot)
        if pool is None:
            pool = self._pools[snapshot] = Pool(
                unpacked,
                self._setup,
                self._datastore,
                self._passing or self._folder,
                slots=self._room.slots,
                gpus=self._room.gpus,
                report=self._on_event,
            )
            for fileno in pool.target.filenos():
                self._selector.register(fileno, selectors.EVENT_READ)
        return pool

    def _drop(self, snapshot: bytes) -> None:
        pool = self._pools.pop(snapshot)
        for fileno in pool.target.filenos():
            self._selector.unregister(fileno)
        pool.target.close()

    def _on_event(self, pool: Pool, event: TargetEvent) -> None:
        if isinstance(event, _OUTCOMES):
            running = self._running.pop(event.attempt, None)
            if running is not None:
                pool.ended()
                self._room.give_back(running[1], running[2])
        self._events.append(pool.told(event))

    def _fail(self, attempt: AttemptId, kind: FailureKind, message: str) -> None:
        self._events.append(self._failed(attempt, kind, message))

    def _failed(self, attempt: AttemptId, kind: FailureKind, message: str) -> AttemptFailed:
        now = time.time()
        return AttemptFailed(attempt, Failure(kind, message), now, now, host=socket.gethostname())

    def _flush(self) -> None:
        if not self._events:
            return
        now = time.monotonic()
        if now < self._reported_at + self._report_every_s and (self._running or self._waiting):
            return
        self._reported_at = now
        events, self._events = self._events, []
        self._report(events)

    def _end_idle_pools(self) -> None:
        idle = sorted((one.idle_since, snapshot) for snapshot, one in self._pools.items() if not one.running)
        oldest_kept = time.monotonic() - self._idle_s
        for position, (since, snapshot) in enumerate(idle):
            if since <= oldest_kept or len(idle) - position > _MOST_IDLE_POOLS:
                self._drop(snapshot)

    def _unpack(self, packed: bytes) -> Unpacked:
        with self._unpacking:
            found = self._unpacked.get(packed)
            if found is None or not Path(found.prefix).is_dir():
                found = self._unpacked[packed] = unpack(pickle.loads(packed), self._datastore, self._folder / "code")
            return found

    def _wake(self) -> None:
        with suppress(OSError):
            os.write(self._wake_write, b"\0")


def _check_versions(assignment: Assignment) -> None:
    """Raise ``TargetError`` when the step's code would meet other packages than those that its key names."""
    differing = other_versions(assignment.versions)
    if differing:
        raise TargetError(
            f"{socket.gethostname()} has other packages than those that the step's key names: {differing}. Install "
            "the same there, or have the step name an environment, which is then built there"
        )
