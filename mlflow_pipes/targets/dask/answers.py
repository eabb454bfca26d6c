"""What becomes of attempts that Dask was given: by what workers tell, by who left, and by what Dask says of tasks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    CapacityChanged,
    Failure,
    FailureKind,
    TargetEvent,
)
from mlflow_pipes.targets.dask.members import Nearness
from mlflow_pipes.targets.dask.tasks import Pace, Task, Tasks
from mlflow_pipes.targets.station.messages import decode_events

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENDED = frozenset({"finished", "error", "lost", "cancelled"})  # what Dask calls futures of which it knows the end


class Answers:
    """Answers for tasks, each once; safe for several threads.

    Args:
        wake: has the target's thread look.

    Attributes:
        tasks: those that are not answered.
        near: which worker made what.
        pace: how long attempts take.
        report: takes the events.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.tasks = Tasks()
        self.near = Nearness()
        self.pace = Pace()
        self.report: Callable[[TargetEvent], None] = lambda _: None
        self._wake = wake
        self._strays: deque[AttemptId] = deque()

    def fail(self, task: Task, kind: FailureKind, message: str) -> None:
        """Answer for a task that no worker answers for."""
        failure = Failure(kind, message)
        self._answer(AttemptFailed(task.attempt, failure, task.submitted_at, time.time(), worker=task.worker or ""), "")

    def fail_all(self, tasks: Iterable[Task], kind: FailureKind, message: str) -> None:
        """Answer for tasks that no worker answers for."""
        for task in tasks:
            self.fail(task, kind, message)

    def strays(self) -> Sequence[AttemptId]:
        """Return the attempts that were answered for, and begun again elsewhere by Dask; each once."""
        return [self._strays.popleft() for _ in range(len(self._strays))]

    # --- what workers tell, from the client's thread --------------------------------------------------------------

    def on_events(self, worker: str, encoded: bytes) -> None:
        """Take what a worker's station tells."""
        for event in decode_events(encoded):
            if isinstance(event, AttemptSucceeded | AttemptFailed):
                self._answer(event, worker)
            elif not isinstance(event, CapacityChanged):  # a station has nothing to say of that
                task = self.tasks.get(event.attempt)
                if task is None:  # it was given up, and Dask had it begun again elsewhere
                    if isinstance(event, AttemptStarted):
                        self._strays.append(event.attempt)
                        self._wake()
                    continue
                if isinstance(event, AttemptStarted):
                    task.worker = worker
                self.report(event)

    def on_lost_worker(self, worker: str) -> None:
        """Answer for what a worker had begun that is gone."""
        for task in self.tasks.under_way():
            if task.worker == worker:  # forgetting its future keeps Dask from doing it again elsewhere
                self.lose(task, f"its Dask worker {worker} was lost")

    def lose(self, task: Task, message: str) -> None:
        """Answer for a task whose work has ended with what did it."""
        self.fail(task, FailureKind.CANCELLED if task.is_cancelled else FailureKind.LOST, message)

    # --- what Dask says of tasks ----------------------------------------------------------------------------------

    def look_at(self, task: Task) -> None:
        """Answer for a task of which Dask knows the end, when its worker does not."""
        status = task.future.status
        if status not in _ENDED or task.is_cancelled:
            return
        if not task.is_silent:
            task.is_silent = True  # its last events may be on their way
            return
        error = task.future.exception(timeout=5) if status == "error" else None
        if isinstance(error, ModuleNotFoundError):
            message = f"{error} on a Dask worker: install there what is installed here"
            self.fail(task, FailureKind.WORLD, message)
        elif error is not None and type(error).__name__ != "KilledWorker":
            self.fail(task, FailureKind.WORLD, f"its Dask worker failed: {type(error).__name__}: {error}")
        else:
            where = f" {task.worker}" if task.worker else ""
            self.fail(task, FailureKind.LOST, f"its Dask worker{where} was lost, or the task was cancelled there")

    def _answer(self, event: AttemptSucceeded | AttemptFailed, worker: str) -> None:
        task = self.tasks.take(event.attempt)
        if task is None:
            return
        if isinstance(event, AttemptSucceeded):
            self.near.made(event.output, worker)
            self.pace.took(task.assignment.function.qualname, event.ended_at - event.started_at)
        self.report(event)
        self.tasks.answered()
