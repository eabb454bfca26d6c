"""``DaskTarget``: attempts on the workers of a Dask cluster, each in a child process of one that can be killed."""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import TargetError
from mlflow_pipes.model.attempt import (
    Assignment,
    AttemptId,
    Capacity,
    CapacityChanged,
    FailureKind,
    TargetEvent,
)
from mlflow_pipes.targets.dask.answers import Answers
from mlflow_pipes.targets.dask.members import Load, Member, Wanted, gave_up, shortage, wanted
from mlflow_pipes.targets.dask.patience import Patience
from mlflow_pipes.targets.dask.plan import ClusterPlan
from mlflow_pipes.targets.dask.stopping import Stopping, leave
from mlflow_pipes.targets.dask.tasks import Pace, Task, task_key
from mlflow_pipes.targets.station.messages import setup_of
from mlflow_pipes.targets.station.parcels import Parcels, why_unsent
from mlflow_pipes.worker.secrets import PREFIX

if TYPE_CHECKING:
    from mlflow_pipes.content import FileMemo
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.dask.connection import Connection

_LOOK_EVERY_S = 0.5
_SEE_MEMBERS_EVERY_S = 2.0
_GATHER_S = 0.05
_NOT_AGAIN_S = 10.0  # after a scheduler could not be reached, attempts fail at once
_log = logging.getLogger(__name__)


class DaskTarget:
    """Attempts as tasks of a Dask cluster.

    Dask decides which worker does what; attempts, retries, reuse and time limits stay ours. Code travels as a snapshot,
    values through the datastore, which all workers must reach. A thread of a worker is a slot; an attempt that asks for
    several ``cpus`` waits on its worker until so many threads have nothing to do.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are.
        there: what the workers have of it; sent to them by pickle. By default *datastore* itself.
        checkout: as every target has it; here only left out of snapshots.
        scratch: as *checkout*.
        workspace: the workspace's folder, for ``current_run()``.
        address: of a scheduler; without it, a cluster is made for the run.
        security: keyword arguments of ``distributed.security.Security``, for TLS.
        cluster: dotted name of the Dask cluster class to make.
        arguments: its keyword arguments.
        workers: how many workers it is to have.
        minimum: of workers while there is little work; with *maximum*.
        maximum: of workers; makes the cluster grow and shrink with the work.
        idle_s: a worker without work is kept so long while there are more than the minimum.
        no_workers_timeout_s: a step that no worker fits fails after that time; its retries do not wait anew.
        connect_timeout_s: how long to wait for the scheduler.
        environ: environment variables of the attempts, over those of the workers.
        memo: digests of files hashed before.
        cancel_patience_s: how long to wait for workers to say that cancelled work has stopped.
    """

    runs_environments = True

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        checkout: Path,
        scratch: Path,
        there: Any = None,
        workspace: str = "",
        address: str = "",
        security: Mapping[str, Any] | None = None,
        cluster: str = "distributed.LocalCluster",
        arguments: Mapping[str, Any] | None = None,
        workers: int | None = None,
        minimum: int = 0,
        maximum: int | None = None,
        idle_s: float = 60.0,
        no_workers_timeout_s: float = 300.0,
        connect_timeout_s: float = 30.0,
        environ: Mapping[str, str] | None = None,
        memo: FileMemo | None = None,
        cancel_patience_s: float = 15.0,
    ) -> None:
        self.name = name
        self._there = datastore if there is None else there
        self._workspace = workspace
        self._environ = dict(environ or {})
        self._patience = Patience(no_workers_timeout_s)
        self._cancel_patience_s = cancel_patience_s
        self._plan = ClusterPlan(
            address, security or {}, cluster, arguments or {}, workers, minimum, maximum, idle_s, connect_timeout_s
        )
        self._parcels = Parcels(datastore, memo, [checkout, scratch, workspace])
        self._something = threading.Event()
        self._answers = Answers(self._something.set)
        self._tasks, self._pace = self._answers.tasks, self._answers.pace
        self._setup = b""
        self._stopping = Stopping(b"", cancel_patience_s, self._answers.fail_all)
        self._members: Mapping[str, Member] = {}
        self._members_seen = 0.0
        self._told_slots = 0
        self._connection: Connection | None = None
        self._inbox: deque[Assignment] = deque()
        self._held: list[Task] = []  # no worker fits them now
        self._cancelled: deque[AttemptId] = deque()
        self._is_open = self._is_ending = self._is_wanted = False
        self._not_connected: tuple[float, str] = (-math.inf, "")
        self._thread: threading.Thread | None = None

    # --- the port -------------------------------------------------------------------------------------------------

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready; the scheduler is connected to, or the cluster made, when there is something to do."""
        self._answers.report = report
        secrets = {name: text for name, text in os.environ.items() if name.startswith(PREFIX)}
        try:
            setup = setup_of(self.name, self._there, self._workspace, {**secrets, **self._environ})
        except Exception as error:
            raise TargetError(
                f"target {self.name!r} cannot send its {type(self._there).__name__} to workers: {error}"
            ) from error
        self._setup = pickle.dumps(setup, 5)
        self._stopping = Stopping(self._setup, self._cancel_patience_s, self._answers.fail_all)
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name=f"target {self.name}", daemon=True)
        self._thread.start()

    def capacity(self) -> Capacity:
        """Return what may be sent at once. Whether a worker fits an attempt is seen when it is sent."""
        plan, members = self._plan, self._members.values()
        threads = sum(member.threads for member in members)
        if plan.is_adaptive or not members:
            each = max((member.threads for member in members), default=plan.threads_each)
            threads = max(threads, each * plan.most_workers)
        self._told_slots = self._pace.ahead * threads
        return Capacity(cpus=math.inf, slots=self._told_slots, gpus=math.inf, ahead=self._told_slots - threads)

    def warm(self, functions: Sequence[FunctionReference], environ: Mapping[str, str]) -> None:  # noqa: ARG002
        """Begin to connect, or to make the cluster."""
        self._is_wanted = True
        self._something.set()

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt; it is sent with others that come at the same time."""
        if not self._is_open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        self._tasks.add(assignment)
        self._inbox.append(assignment)
        self._something.set()

    def cancel(self, attempt: AttemptId) -> None:
        """Have an attempt stopped."""
        task = self._tasks.get(attempt)
        if task is not None and self._connection is None:  # to connect may take long
            self._answers.fail(task, FailureKind.CANCELLED, "cancelled before it began")
            return
        self._cancelled.append(attempt)
        self._something.set()

    def close(self) -> None:
        """Stop everything, wait until the workers say that it has stopped, disconnect, end a cluster of our own."""
        if not self._is_open:
            return
        self._is_open = False
        for attempt in self._tasks.attempts():
            self.cancel(attempt)
        patience = time.monotonic() + self._cancel_patience_s + 5.0
        while self._tasks.attempts() and time.monotonic() < patience:
            self._tasks.wait_for_answer(0.1)
        self._is_ending = True
        self._something.set()
        assert self._thread is not None
        self._thread.join()
        for task in self._tasks.all():
            self._answers.fail(
                task, FailureKind.CANCELLED, "the target was closed; whether the work has stopped is not known"
            )
        self._disconnect()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._is_ending:
            self._something.wait(_LOOK_EVERY_S if self._tasks.attempts() else None)
            self._something.clear()
            self._gather()
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may wait for ever
                why = f"the Dask cluster cannot be used: {type(error).__name__}: {error}"
                if self._connection is not None and self._connection.is_lost:
                    why = f"the Dask scheduler at {self._plan.where} went away"
                else:
                    _log.exception("target %r lost its Dask cluster", self.name)
                self._lose_all(why)

    def _gather(self) -> None:
        """Let short attempts come together, as long as the threads have half of what they may have."""
        half = self._told_slots // 2
        patience = time.monotonic() + _GATHER_S
        while 0 < len(self._inbox) < half < len(self._tasks.under_way()) and not self._cancelled:
            if self._pace.ahead == Pace.FEWEST or time.monotonic() > patience:
                return
            time.sleep(_GATHER_S / 10)

    def _turn(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_lost:
            self._lose_all(f"the Dask scheduler at {self._plan.where} went away")
        if self._is_wanted or self._inbox:
            self._connect()
        self._send_all()
        self._cancel_all()
        self._look_after(time.monotonic())
        told, capacity = self._told_slots, self.capacity()
        if capacity.slots != told:
            self._answers.report(CapacityChanged(self.name, capacity))

    def _send_all(self) -> None:
        """Send what has come, in as few messages as there are kinds of places for it."""
        groups: dict[Wanted, list[Task]] = {}
        if self._inbox and self._connection is not None and not self._members:
            self._see_members()  # the first may have come by now
        load = Load(self._members, [task.worker or task.preferred for task in self._tasks.under_way()])
        while self._inbox:
            task = self._tasks.get(self._inbox.popleft().attempt)
            if task is None or task.is_cancelled:
                continue
            if self._connection is not None and self._members and shortage(task.assignment, self._members):
                self._held.append(task)
                continue
            if self._is_packed(task):
                task.preferred = load.preferred(self._answers.near.nearest(task.assignment))
                load.add(task.preferred)
                place = wanted(task.assignment, self._members, task.preferred)
                groups.setdefault(place, []).append(task)
        for place, group in groups.items():
            if self._connection is None:
                self._answers.fail_all(group, FailureKind.WORLD, self._not_connected[1])
            else:
                self._send(self._connection, place, group)

    def _is_packed(self, task: Task) -> bool:
        try:
            task.message = self._parcels.message(task.assignment)
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this attempt's
            self._answers.fail(task, *why_unsent(error, "a worker"))
            return False

    def _send(self, connection: Connection, place: Wanted, group: Sequence[Task]) -> None:
        bundles = list(self._pace.bundles(group, sum(member.threads for member in self._members.values())))
        messages = {task_key(bundle[0].assignment): [task.message for task in bundle] for bundle in bundles}
        for bundle, future in zip(bundles, connection.send(place, self._setup, messages), strict=True):
            for task in bundle:
                task.future, task.message = future, b""

    def _cancel_all(self) -> None:
        tasks = []
        while self._cancelled:
            task = self._tasks.get(self._cancelled.popleft())
            if task is not None and not task.is_cancelled:
                task.is_cancelled = True
                tasks.append(task)
        unsent = [task for task in tasks if task.future is None]
        self._answers.fail_all(unsent, FailureKind.CANCELLED, "cancelled before it began")
        sent = [task for task in tasks if task.future is not None]
        if sent:
            self._stop(sent, FailureKind.CANCELLED, "cancelled before it began")
        strays = self._answers.strays()
        if strays and self._connection is not None:
            self._stopping.stop_strays(self._connection, strays)

    def _stop(self, tasks: Sequence[Task], kind: FailureKind, message: str) -> None:
        """Have Dask forget tasks, but not those that others in a bundle need, and workers kill what is under way."""
        connection = self._connection
        if connection is None or connection.is_lost:
            return  # noticed at the next turn
        needed = {id(task.future) for task in self._tasks.under_way() if not task.is_cancelled}
        forgotten = {id(task.future): task.future for task in tasks if id(task.future) not in needed}
        connection.forget(list(forgotten.values()))
        self._stopping.stop(connection, tasks, kind, message)

    # --- what becomes of tasks ------------------------------------------------------------------------------------

    def _look_after(self, now: float) -> None:
        connection = self._connection
        if connection is None:
            return
        tasks = self._tasks.under_way()
        if now - self._members_seen > _SEE_MEMBERS_EVERY_S and self._tasks.attempts():
            self._see_members()
        held, self._held = self._held, []
        for task in held:
            if self._tasks.get(task.attempt) is not task:
                continue  # it was cancelled
            if self._has_room(task, now):
                self._inbox.append(task.assignment)
                self._something.set()
            else:
                self._held.append(task)
        for task in tasks:
            self._answers.look_at(task)
            if not task.is_silent and not task.is_cancelled and task.worker is None:
                self._has_room(task, now)

    def _has_room(self, task: Task, now: float) -> bool:
        """Tell whether a worker fits a task; give the task up when none did for too long."""
        short = shortage(task.assignment, self._members)
        if short and self._patience.is_over(task.attempt, now):
            self._see_members()  # one may just have come
            short = shortage(task.assignment, self._members)
        if not short:
            self._patience.fits(task.attempt)
        elif self._patience.is_over(task.attempt, now):
            task.is_cancelled = True
            message = gave_up(short, self._plan.where, self._patience.most_s)
            if task.future is None:
                self._answers.fail(task, FailureKind.WORLD, message)
            else:
                self._stop([task], FailureKind.WORLD, message)
        return not short

    def _see_members(self) -> None:
        assert self._connection is not None
        self._members = self._connection.members()
        self._members_seen = time.monotonic()

    def _on_lost_worker(self, worker: str) -> None:
        self._members_seen = 0.0
        self._answers.on_lost_worker(worker)
        self._something.set()

    # --- the cluster ----------------------------------------------------------------------------------------------

    def _scheduler(self) -> ClusterPlan:
        """Return which scheduler to connect to now."""
        return self._plan

    def _connect(self) -> None:
        """Connect if that is not done and did not fail just now."""
        self._is_wanted = False
        if self._connection is not None or time.monotonic() - self._not_connected[0] < _NOT_AGAIN_S:
            return
        from mlflow_pipes.targets.dask.connection import Connection  # Dask: half a second that reuse need not pay

        try:
            self._connection = Connection(
                self._scheduler(), self._answers.on_events, self._on_lost_worker, lambda: self._is_open
            )
            self._see_members()
        except TargetError as error:
            self._not_connected = (time.monotonic(), str(error))

    def _lose_all(self, message: str) -> None:
        """Answer for all that does not wait here, and disconnect from the scheduler: the next attempt connects anew."""
        self._inbox.extend([task.assignment for task in self._held])
        self._held = []
        waiting = {assignment.attempt for assignment in list(self._inbox)}
        for task in self._tasks.all():
            if task.attempt not in waiting:
                self._answers.lose(task, message)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not connection.is_lost:
            leave(connection, self._cancel_patience_s)
        connection.close()
