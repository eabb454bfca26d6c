"""``SparkTarget``: plain steps in tasks on Spark's executors, Spark steps in processes beside its driver."""

from __future__ import annotations

import logging
import math
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import PipesError, TargetError
from mlflow_pipes.model.attempt import (
    Assignment,
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    Capacity,
    CapacityChanged,
    Failure,
    FailureKind,
    TargetEvent,
)
from mlflow_pipes.snapshot.taking import Snapshots
from mlflow_pipes.targets.spark.board import Board
from mlflow_pipes.targets.spark.cluster import Cluster
from mlflow_pipes.targets.spark.inbox import Cancelled, Gone, Heard, Inbox, Opened, Submitted, Told
from mlflow_pipes.targets.spark.plan import SparkPlan
from mlflow_pipes.targets.spark.spark_steps import SparkSteps
from mlflow_pipes.targets.spark.tempo import Tempo
from mlflow_pipes.targets.station.clocks import by_our_clock
from mlflow_pipes.targets.station.letters import blobs_of_snapshot, blobs_of_work
from mlflow_pipes.targets.station.messages import Packer, decode_events
from mlflow_pipes.worker.sources import SourceChangedError

if TYPE_CHECKING:
    from mlflow_pipes.content import FileMemo
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.spark.reception import Visitor

_LOOK_EVERY_S = 1.0
_ENDS_WITHIN_S = 10.0
_FIRST_GUESS = 4
_MOST_LOSSES = 3
_OUTCOMES = (AttemptSucceeded, AttemptFailed)
_log = logging.getLogger(__name__)


class _Task:
    """An attempt that is not answered."""

    __slots__ = ("assignment", "is_cancelled", "submitted_at", "visitor", "was_repeated", "was_started")

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.submitted_at = time.time()
        self.visitor: Visitor | None = None
        self.is_cancelled = self.was_started = self.was_repeated = False


class SparkTarget:
    """Attempts on a Spark cluster, in Spark on this machine, or by a Spark Connect server.

    Spark's tasks come to this process for attempts, and do one after the other in child processes that can be killed;
    Spark itself knows nothing of attempts. Code travels as a snapshot. Where executors do not reach the datastore,
    blobs are sent there and back. A step that wants a Spark session runs in a process of this machine, and has one of
    its own at the driver.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are.
        checkout: folder where Spark steps have their input files.
        scratch: folder in which attempts have their temporary folders.
        workspace: the workspace's folder, for ``current_run()``.
        master, conf, python, host, tasks, sessions, connect_timeout_s, no_workers_timeout_s: see ``SparkPlan``.
        environ: environment variables of the attempts, over those of the executors.
        memo: digests of files hashed before.
    """

    runs_environments = True
    gives_spark = True

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        checkout: Path,
        scratch: Path,
        workspace: str = "",
        master: str = "local[*]",
        conf: Mapping[str, Any] | None = None,
        python: str = "",
        host: str = "",
        tasks: int | None = None,
        sessions: int = 4,
        connect_timeout_s: float = 120.0,
        no_workers_timeout_s: float = 300.0,
        environ: Mapping[str, str] | None = None,
        memo: FileMemo | None = None,
    ) -> None:
        self.name = name
        self._plan = SparkPlan(
            master, conf or {}, python, host, tasks, sessions, connect_timeout_s, no_workers_timeout_s
        )
        self._datastore = datastore
        own = [checkout, scratch, *([Path(workspace)] if workspace else []), *_folder_of(datastore)]
        self._snapshots = Snapshots(datastore, memo, own)
        self._packer = Packer(self._snapshots.shipped)
        self._snapshot_blobs: dict[Digest, set[Digest]] = {}
        self._inbox = Inbox()
        self._cluster = Cluster(
            name, self._plan, datastore, scratch.parent, workspace=workspace, environ=environ or {}, inbox=self._inbox
        )
        self._spark_steps = SparkSteps(
            name,
            datastore,
            self._cluster,
            report=self._on_spark_step,
            folders={"checkout": checkout, "scratch": scratch},
            workspace=workspace,
            environ=environ or {},
            sessions=sessions,
        )
        self._board = Board()
        self._tempo = Tempo()
        self._visitors: dict[int, Visitor] = {}
        self._most_visitors = 0
        self._tasks: dict[AttemptId, _Task] = {}
        self._report: Callable[[TargetEvent], None] = lambda _: None
        self._told_slots = self._losses = self._fruitless = 0
        self._is_open = self._is_ending = False
        self._thread: threading.Thread | None = None

    # --- the port -------------------------------------------------------------------------------------------------

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready; Spark is started, or connected to, when there is something to do."""
        self._report = report
        try:
            pickle.dumps(self._datastore, 5)
        except Exception as error:
            raise TargetError(
                f"target {self.name!r} cannot send its {type(self._datastore).__name__} to executors: {error}"
            ) from error
        self._told_slots = self.capacity().slots
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name=f"target {self.name}", daemon=True)
        self._thread.start()

    def capacity(self) -> Capacity:
        """Return what may be sent at once: what there is room for, and as many again to follow at once."""
        room = self._room()
        slots = room * max(2, self._tempo.latest)
        return Capacity(cpus=math.inf, slots=slots, gpus=0, ahead=slots - room)

    def _room(self) -> int:
        """Return how many tasks there may be at once."""
        room = self._cluster.tasks or _FIRST_GUESS
        if self._cluster.grows:
            room = max(room, _FIRST_GUESS, 2 * self._most_visitors)
        return room if self._plan.tasks is None else min(room, self._plan.tasks)

    def warm(self, functions: Sequence[FunctionReference], environ: Mapping[str, str]) -> None:  # noqa: ARG002
        """Begin to start Spark."""
        self._inbox.put(None)

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt."""
        if not self._is_open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        self._inbox.put(Submitted(assignment))

    def cancel(self, attempt: AttemptId) -> None:
        """Have an attempt stopped."""
        self._inbox.put(Cancelled(attempt))

    def close(self) -> None:
        """Stop everything, wait until it has stopped, end Spark if it is ours."""
        if not self._is_open:
            return
        self._is_open = False
        self._is_ending = True
        self._inbox.wake()
        assert self._thread is not None
        self._thread.join()
        self._inbox.close()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._is_ending:
            try:
                self._inbox.wait(self._due_in_s(), self._spark_steps.filenos())
                self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may wait for ever
                _log.exception("target %r failed", self.name)
                self._fail_all(list(self._tasks.values()), FailureKind.WORLD, f"target {self.name!r} failed: {error}")
        self._finish()

    def _due_in_s(self) -> float | None:
        now = time.monotonic()
        due = [self._board.next_due(), self._spark_steps.next_deadline()]
        if self._board.waiting() or self._cluster.is_starting:
            due.append(now + _LOOK_EVERY_S)
        soonest = min(due)
        return None if soonest == math.inf else max(0.0, soonest - now)

    def _turn(self) -> None:
        self._take_all()
        self._spark_steps.poll()
        now = time.monotonic()
        trouble = self._cluster.look(now)
        if trouble:
            self._on_trouble(trouble)
        self._place(now)
        for number in self._board.dismissed(now):
            self._visitors[number].dismiss()
        if self._board.waiting():
            self._ask_for_tasks()
            self._look_for_stuck(now)
        told, capacity = self._told_slots, self.capacity()
        if capacity.slots != told:
            self._told_slots = capacity.slots
            self._report(CapacityChanged(self.name, capacity))

    def _take_all(self) -> None:
        for news in self._inbox.take():
            match news:
                case Submitted(assignment):
                    self._take(assignment)
                case Cancelled(attempt):
                    self._cancel(attempt)
                case Opened(visitor):
                    self._visitors[visitor.number] = visitor
                    self._most_visitors = max(self._most_visitors, len(self._visitors))
                    arrived = visitor.arrived
                    self._board.came(visitor.number, arrived.host, arrived.job, time.monotonic())
                    if self._is_ending:
                        visitor.dismiss()
                case Told(visitor, events, absent):
                    self._on_told(visitor, events, absent)
                case Gone(visitor, why):
                    self._on_gone(visitor, why)
                case Heard(link, said):
                    self._on_driver(link, said)
                case None:
                    self._cluster.want()

    def _take(self, assignment: Assignment) -> None:
        if assignment.wants_spark and not self._is_ending:
            self._spark_steps.begin(assignment)
            return
        self._tasks[assignment.attempt] = _Task(assignment)
        self._board.add(assignment.attempt, assignment.cpus, time.monotonic())

    def _ask_for_tasks(self) -> None:
        why = self._cluster.want()
        if why:
            self._on_trouble(why)
        elif self._cluster.is_up:
            self._board.task_cpus = self._cluster.task_cpus
            count = self._board.wanted(self._room())
            if count:
                self._board.asked(self._cluster.ask(count), count)

    def _look_for_stuck(self, now: float) -> None:
        stuck_s = self._board.stuck_s(now)
        if self._cluster.is_up and stuck_s > self._plan.no_workers_timeout_s:
            asked = max(self._tasks[attempt].assignment.cpus for attempt in self._board.waiting())
            self._fail_waiting(
                f"Spark at {self._plan.where} began no task for this step within no_workers_timeout="
                f"{self._plan.no_workers_timeout_s:g} s: {self._board.present()} tasks are there, and cpus={asked:g} "
                "are asked for on one host; the cluster has no free executors, or none so large"
            )

    # --- giving attempts to tasks ---------------------------------------------------------------------------------

    def _place(self, now: float) -> None:
        for given in self._board.place(now, self._may_have):
            task, visitor = self._tasks[given.attempt], self._visitors[given.task]
            self._send(task, visitor)

    def _may_have(self, attempt: AttemptId) -> int:
        return self._tempo.ahead(self._tasks[attempt].assignment.function.qualname)

    def _send(self, task: _Task, visitor: Visitor) -> None:
        assignment = task.assignment
        try:
            message = self._packer.pack(_for_one_slot(assignment))
            needs = () if visitor.arrived.sees else self._blobs(assignment)
        except SourceChangedError as error:
            self._fail(task, FailureKind.SOURCE_CHANGED, str(error))
        except PipesError as error:
            self._fail(task, FailureKind.WORLD, str(error))
        except Exception as error:  # noqa: BLE001 - such as arguments that cannot be pickled
            self._fail(task, FailureKind.WORLD, f"cannot be sent to {visitor.arrived.host}: {error}")
        else:
            task.visitor = visitor
            visitor.send(message, needs)

    def _blobs(self, assignment: Assignment) -> set[Digest]:
        """Return the blobs that an attempt needs there: of its code and its inputs."""
        snapshot, _ = self._snapshots.shipped(assignment.function)
        code = self._snapshot_blobs.get(snapshot.root)
        if code is None:
            code = self._snapshot_blobs[snapshot.root] = blobs_of_snapshot(snapshot, self._datastore)
        return code | blobs_of_work(assignment, self._datastore)

    def _cancel(self, attempt: AttemptId) -> None:
        if self._spark_steps.cancel(attempt):
            return
        task = self._tasks.get(attempt)
        if task is None or task.is_cancelled:
            return
        task.is_cancelled = True
        if task.visitor is None:
            self._fail(task, FailureKind.CANCELLED, "cancelled before it began")
        else:
            task.visitor.cancel(attempt)

    # --- what is told ---------------------------------------------------------------------------------------------

    def _on_told(self, visitor: Visitor, encoded: bytes, absent: Mapping[Digest, Any]) -> None:
        for told in decode_events(encoded):
            event = by_our_clock(told, visitor.is_behind_s)
            if isinstance(event, CapacityChanged):
                continue  # a station has nothing to say of that
            task = self._tasks.get(event.attempt)
            if task is None:
                continue
            if isinstance(event, AttemptStarted):
                if task.was_started:
                    continue
                task.was_started = True
            if not isinstance(event, _OUTCOMES):
                self._report(event)
            elif isinstance(event, AttemptFailed) and self._repeats(task, visitor, event.failure):
                continue
            elif absent:
                why = next(iter(absent.values())).why
                self._fail(task, FailureKind.WORLD, f"what it made on {visitor.arrived.host} did not get here: {why}")
            else:
                self._losses = 0
                self._tempo.took(task.assignment.function.qualname, event.ended_at - event.started_at)
                self._answer(event)

    def _repeats(self, task: _Task, visitor: Visitor, failure: Failure) -> bool:
        """Send an attempt again whose inputs are here and were spoilt there; tell whether that was done."""
        is_ours = failure.kind is FailureKind.INPUT and not visitor.arrived.sees
        if not is_ours or task.was_repeated or task.is_cancelled:
            return False
        with suppress(PipesError, ValueError):
            blobs = [Digest.parse(blob) for blob in failure.blobs]
            if blobs and self._datastore.has(blobs) == set(blobs):
                task.was_repeated = True
                visitor.forget(blobs)
                self._send(task, visitor)
                return True
        return False

    def _on_gone(self, visitor: Visitor, why: str) -> None:
        self._visitors.pop(visitor.number, None)
        if visitor.refused:
            self._on_trouble(visitor.refused)
        place = visitor.arrived.host
        for attempt in self._board.left(visitor.number):
            task = self._tasks.get(attempt)
            if task is not None and task.is_cancelled:
                self._fail(task, FailureKind.CANCELLED, "cancelled; its task went away")
            elif task is not None:
                self._fail(task, FailureKind.LOST, f"the task of Spark's on {place} that did it went away ({why})")

    def _on_driver(self, link: object, said: Mapping[str, Any] | None) -> None:
        if not self._cluster.is_current(link):
            return
        if said is None:
            self._on_driver_gone()
        elif "facts" in said:
            self._cluster.take_facts(said["facts"], is_ready="ready" in said)
            self._spark_steps.on_ready()
        elif "failed" in said:
            self._cluster.failed_by(said["failed"])
        elif "job" in said:
            has_come = self._board.job_ended(said["job"])
            self._fruitless = 0 if has_come else self._fruitless + 1
            if not has_come and self._board.waiting() and (said["error"] or self._fruitless >= _MOST_LOSSES):
                self._on_trouble(self._cluster.explained(said["error"] or "its tasks end before they come for work"))
        else:
            self._spark_steps.on_said(said)

    def _on_driver_gone(self) -> None:
        """Have another driver do what waits; not where it goes away again and again."""
        self._board.no_jobs()
        was_up = self._cluster.is_up
        why = self._cluster.lost()
        self._losses += 1
        if was_up and self._losses < _MOST_LOSSES:
            self._spark_steps.on_trouble(why)
        else:
            self._on_trouble(why)

    def _on_trouble(self, message: str) -> None:
        """Answer for what waits: Spark cannot be used."""
        self._fail_waiting(message)
        self._spark_steps.on_trouble(message)

    # --- answers --------------------------------------------------------------------------------------------------

    def _on_spark_step(self, event: TargetEvent) -> None:
        self._report(event)

    def _answer(self, answer: AttemptSucceeded | AttemptFailed) -> None:
        if self._tasks.pop(answer.attempt, None) is not None:
            self._board.drop(answer.attempt)
            self._board.answered(answer.attempt, time.monotonic())
            self._report(answer)

    def _fail(self, task: _Task, kind: FailureKind, message: str) -> None:
        failure = Failure(kind, message)
        self._answer(AttemptFailed(task.assignment.attempt, failure, task.submitted_at, time.time()))

    def _fail_all(self, tasks: Sequence[_Task], kind: FailureKind, message: str) -> None:
        for task in tasks:
            self._fail(task, FailureKind.CANCELLED if task.is_cancelled else kind, message)

    def _fail_waiting(self, message: str) -> None:
        self._fail_all([self._tasks[attempt] for attempt in self._board.waiting()], FailureKind.WORLD, message)

    # --- the end --------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._take_all()
        for attempt in self._board.waiting():
            self._fail(self._tasks[attempt], FailureKind.CANCELLED, "the target was closed before it began")
        for task in self._tasks.values():
            task.is_cancelled = True
        for visitor in self._visitors.values():
            visitor.dismiss()
        self._spark_steps.close()
        patience = time.monotonic() + _ENDS_WITHIN_S
        while self._visitors and time.monotonic() < patience:
            self._inbox.wait(0.2, ())
            self._take_all()
        for visitor in list(self._visitors.values()):
            visitor.cut()
        self._cluster.close()
        self._take_all()
        message = "the target was closed; whether its work on the executors has stopped is not known"
        self._fail_all(list(self._tasks.values()), FailureKind.CANCELLED, message)


def _for_one_slot(assignment: Assignment) -> Assignment:
    """Return an assignment for a station of one slot: what else it asks for stands by, or is the cluster's to give."""
    return assignment if assignment.cpus <= 1 and not assignment.gpus else replace(assignment, cpus=1.0, gpus=())


def _folder_of(datastore: Datastore) -> list[Path]:
    folder = getattr(datastore, "folder", None)
    return [] if folder is None else [Path(folder)]
