"""Attempts at steps that know nothing of Spark: in tasks of Spark's, which come for them one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    Capacity,
    CapacityChanged,
    Failure,
    FailureKind,
)
from mlflow_pipes.targets.spark.board import Board
from mlflow_pipes.targets.spark.tempo import Tempo
from mlflow_pipes.targets.station.clocks import by_our_clock
from mlflow_pipes.targets.station.messages import decode_events
from mlflow_pipes.targets.station.parcels import spoilt_there, why_undelivered, why_unsent

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.attempt import Assignment, TargetEvent
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.spark.cluster import Cluster
    from mlflow_pipes.targets.spark.plan import SparkPlan
    from mlflow_pipes.targets.spark.reception import Visitor
    from mlflow_pipes.targets.station.mailbox import Absence
    from mlflow_pipes.targets.station.parcels import Parcels

_FIRST_GUESS = 4
_MOST_FRUITLESS = 3
_OUTCOMES = (AttemptSucceeded, AttemptFailed)


class _Unanswered:
    """An attempt that is not answered."""

    __slots__ = ("assignment", "is_cancelled", "submitted_at", "visitor", "was_repeated", "was_started")

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.submitted_at = time.time()
        self.visitor: Visitor | None = None
        self.is_cancelled = self.was_started = self.was_repeated = False


class PlainSteps:
    """Who waits, who does which attempt, what they tell of it, and the one answer of each.

    Used by one thread, but for ``capacity``.

    Args:
        plan: which Spark.
        datastore: where inputs and outputs are.
        parcels: makes what is sent of attempts.
        cluster: where tasks come from.
        report: takes events.
    """

    def __init__(
        self,
        plan: SparkPlan,
        datastore: Datastore,
        parcels: Parcels,
        cluster: Cluster,
        report: Callable[[TargetEvent], None],
    ) -> None:
        self._plan, self._datastore, self._parcels, self._cluster = plan, datastore, parcels, cluster
        self._report = report
        self._board = Board()
        self._tempo = Tempo()
        self._visitors: dict[int, Visitor] = {}
        self._most_visitors = 0
        self._open: dict[AttemptId, _Unanswered] = {}
        self._fruitless = 0  # jobs in a row of which no task came
        self._is_ending = False

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

    # --- attempts -------------------------------------------------------------------------------------------------

    def begin(self, assignment: Assignment) -> None:
        """Take an attempt; it begins when ``turn`` finds a task for it."""
        self._open[assignment.attempt] = _Unanswered(assignment)
        self._board.add(assignment.attempt, assignment.cpus, time.monotonic())

    def cancel(self, attempt: AttemptId) -> None:
        """Have an attempt stopped; one that is unknown or answered is left alone."""
        one = self._open.get(attempt)
        if one is None or one.is_cancelled:
            return
        one.is_cancelled = True
        if one.visitor is None:
            self._fail(one, FailureKind.CANCELLED, "cancelled before it began")
        else:
            one.visitor.cancel(attempt)

    # --- giving them to tasks -------------------------------------------------------------------------------------

    def turn(self) -> str:
        """Give what waits to tasks, send away who is not needed, ask for more.

        Returns:
            Why Spark cannot be used; empty while it may be.
        """
        now = time.monotonic()
        for given in self._board.place(now, self._may_have):
            self._send(self._open[given.attempt], self._visitors[given.task])
        for number in self._board.dismissed(now):
            self._visitors[number].dismiss()
        trouble = self._ask_for_tasks() if self._board.waiting() else ""
        if not trouble:
            self._look_for_stuck(now)
        return trouble

    def next_due(self) -> float:
        """Return when to turn again though nothing has happened; infinity for never."""
        return self._board.next_due()

    @property
    def are_waiting(self) -> bool:
        """Whether attempts wait for a task."""
        return bool(self._board.waiting())

    def _ask_for_tasks(self) -> str:
        why = self._cluster.want()
        if not why and self._cluster.is_up:
            self._board.task_cpus = self._cluster.task_cpus
            count = self._board.wanted(self._room())
            if count:
                self._board.asked(self._cluster.ask(count), count)
        return why

    def _look_for_stuck(self, now: float) -> None:
        stuck_s = self._board.stuck_s(now)
        if self._cluster.is_up and stuck_s > self._plan.no_workers_timeout_s:
            asked = max(self._open[attempt].assignment.cpus for attempt in self._board.waiting())
            self.fail_waiting(
                f"Spark at {self._plan.where} began no task for this step within no_workers_timeout="
                f"{self._plan.no_workers_timeout_s:g} s: {self._board.present()} tasks are there, and cpus={asked:g} "
                "are asked for on one host; the cluster has no free executors, or none so large"
            )

    def _may_have(self, attempt: AttemptId) -> int:
        return self._tempo.ahead(self._open[attempt].assignment.function.qualname)

    def _send(self, one: _Unanswered, visitor: Visitor) -> None:
        assignment = one.assignment
        try:
            message = self._parcels.message(_for_one_slot(assignment))
            needs = () if visitor.arrived.sees else self._parcels.blobs(assignment)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this attempt's
            self._fail(one, *why_unsent(error, visitor.arrived.host))
        else:
            one.visitor = visitor
            visitor.send(message, needs)

    # --- what happens to tasks ------------------------------------------------------------------------------------

    def on_opened(self, visitor: Visitor) -> None:
        """Take in a task that is here for attempts."""
        self._visitors[visitor.number] = visitor
        self._most_visitors = max(self._most_visitors, len(self._visitors))
        self._board.came(visitor.number, visitor.arrived.host, visitor.arrived.job, time.monotonic())
        if self._is_ending:
            visitor.dismiss()

    def on_gone(self, visitor: Visitor, why: str) -> None:
        """Answer for what a task had that is gone."""
        self._visitors.pop(visitor.number, None)
        place = visitor.arrived.host
        for attempt in self._board.left(visitor.number):
            one = self._open.get(attempt)
            if one is not None and one.is_cancelled:
                self._fail(one, FailureKind.CANCELLED, "cancelled; its task went away")
            elif one is not None:
                self._fail(one, FailureKind.LOST, f"the task of Spark's on {place} that did it went away ({why})")

    def on_job_ended(self, job: str, error: str) -> str:
        """Take note that no more tasks of a job will come; returns as ``turn`` does."""
        has_come = self._board.job_ended(job)
        self._fruitless = 0 if has_come else self._fruitless + 1
        if not has_come and self._board.waiting() and (error or self._fruitless >= _MOST_FRUITLESS):
            return self._cluster.explained(error or "its tasks end before they come for work")
        return ""

    def on_driver_gone(self) -> None:
        """Take note that no task comes that was asked for: what waits is for those of another driver."""
        self._board.no_jobs()

    # --- what they tell -------------------------------------------------------------------------------------------

    def on_told(self, visitor: Visitor, encoded: bytes, absent: Mapping[Digest, Absence]) -> bool:
        """Take what a task says of its attempts; tell whether one came to its end there."""
        has_answered = False
        for told in decode_events(encoded):
            event = by_our_clock(told, visitor.is_behind_s)
            if isinstance(event, CapacityChanged):
                continue  # a station has nothing to say of that
            one = self._open.get(event.attempt)
            if one is None:
                continue
            if isinstance(event, AttemptStarted):
                if one.was_started:
                    continue
                one.was_started = True
            if not isinstance(event, _OUTCOMES):
                self._report(event)
            elif isinstance(event, AttemptFailed) and self._repeats(one, visitor, event.failure):
                continue
            elif absent:
                self._fail(one, FailureKind.WORLD, why_undelivered(absent, visitor.arrived.host))
            else:
                has_answered = True
                self._tempo.took(one.assignment.function.qualname, event.ended_at - event.started_at)
                self._answer(event)
        return has_answered

    def _repeats(self, one: _Unanswered, visitor: Visitor, failure: Failure) -> bool:
        """Send an attempt again whose inputs are here and were spoilt there; tell whether that was done."""
        if visitor.arrived.sees or one.was_repeated or one.is_cancelled:
            return False
        blobs = spoilt_there(failure, self._datastore)
        if blobs:
            one.was_repeated = True
            visitor.forget(blobs)
            self._send(one, visitor)
        return bool(blobs)

    # --- answers --------------------------------------------------------------------------------------------------

    def fail_waiting(self, message: str) -> None:
        """Answer for what waits: the world does not let it begin."""
        self._fail_each([self._open[attempt] for attempt in self._board.waiting()], FailureKind.WORLD, message)

    def fail_all(self, kind: FailureKind, message: str) -> None:
        """Answer for all that is not answered."""
        self._fail_each(list(self._open.values()), kind, message)

    def _fail_each(self, them: Sequence[_Unanswered], kind: FailureKind, message: str) -> None:
        for one in them:
            self._fail(one, FailureKind.CANCELLED if one.is_cancelled else kind, message)

    def _fail(self, one: _Unanswered, kind: FailureKind, message: str) -> None:
        failure = Failure(kind, message)
        self._answer(AttemptFailed(one.assignment.attempt, failure, one.submitted_at, time.time()))

    def _answer(self, answer: AttemptSucceeded | AttemptFailed) -> None:
        if self._open.pop(answer.attempt, None) is not None:
            self._board.drop(answer.attempt)
            self._board.answered(answer.attempt, time.monotonic())
            self._report(answer)

    # --- the end --------------------------------------------------------------------------------------------------

    def dismiss_all(self) -> None:
        """Answer for what waits, and have all tasks kill what they do, and go."""
        self._is_ending = True
        for attempt in self._board.waiting():
            self._fail(self._open[attempt], FailureKind.CANCELLED, "the target was closed before it began")
        for one in self._open.values():
            one.is_cancelled = True
        for visitor in self._visitors.values():
            visitor.dismiss()

    @property
    def have_tasks(self) -> bool:
        """Whether tasks are here."""
        return bool(self._visitors)

    def cut(self) -> None:
        """Break the connections of tasks that did not go."""
        for visitor in self._visitors.values():
            visitor.cut()


def _for_one_slot(assignment: Assignment) -> Assignment:
    """Return an assignment for a station of one slot: what else it asks for stands by, or is the cluster's to give."""
    return assignment if assignment.cpus <= 1 and not assignment.gpus else replace(assignment, cpus=1.0, gpus=())
