"""The attempts that a Dask target was given and has not answered for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import digest_record

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import Assignment, AttemptId


def task_key(assignment: Assignment) -> str:
    """Return the key of an attempt's task: no other attempt has it, and Dask's pages show the step's name.

    A key that Dask knows gives its old result again.
    """
    name = assignment.function.qualname.rpartition(".")[2]
    return f"{name}-{digest_record('pipes.dask-key/1', tuple(assignment.attempt))[:32]}"


class Pace:
    """How long attempts take, and what follows for sending them.

    A thread should have one, and those that keep it busy until it can be sent more: that takes some 20 ms. Of long ones
    few are sent ahead, because what was sent does not make way for what is more urgent. And a task costs Dask some
    milliseconds: of short ones several make one.
    """

    FEWEST = 2
    _MOST = 16
    _WITHIN_S = 0.1

    def __init__(self) -> None:
        self._usual_s: dict[str, float] = {}
        self._latest = ""

    @property
    def ahead(self) -> int:
        """How many a thread should have, a power of two; by what ended last."""
        ahead = self.FEWEST
        while ahead < self._within(self._latest):
            ahead *= 2
        return ahead

    def took(self, step: str, duration_s: float) -> None:
        """Note how long an attempt at a step took."""
        usual_s = self._usual_s.get(step, duration_s)
        self._usual_s[step] = usual_s + 0.2 * (duration_s - usual_s)
        self._latest = step

    def bundles(self, tasks: Sequence[Task], threads: int) -> Iterator[list[Task]]:
        """Divide tasks, so that all threads get some: those of one short step in bundles, others each by itself."""
        steps: dict[str, list[Task]] = {}
        for task in tasks:
            steps.setdefault(task.assignment.function.qualname, []).append(task)
        for step, ones in steps.items():
            size = max(1, min(int(self._within(step)), math.ceil(len(ones) / max(1, threads))))
            for start in range(0, len(ones), size):
                yield ones[start : start + size]

    def _within(self, step: str) -> float:
        """Return how many of a step fill the time that one thread may be given at once; 1 when that is not known."""
        usual_s = self._usual_s.get(step)
        return 1.0 if usual_s is None else min(self._MOST, self._WITHIN_S / max(usual_s, 1e-3))


class Task:
    """One attempt.

    Attributes:
        message: what a station is told, while it is sent.
        future: Dask's, once it was sent; shared by a bundle.
        worker: address of the worker that has begun it.
        preferred: address of the worker that it was sent to because that has its inputs; another may begin it.
        is_cancelled: somebody does not want it any more, and its answer is on the way.
        is_silent: Dask says that it has ended, and no answer has come.
    """

    __slots__ = (
        "assignment",
        "attempt",
        "future",
        "is_cancelled",
        "is_silent",
        "message",
        "preferred",
        "submitted_at",
        "worker",
    )

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.attempt = assignment.attempt
        self.message = b""
        self.future: Any = None
        self.worker: str | None = None
        self.preferred: str | None = None
        self.is_cancelled = self.is_silent = False
        self.submitted_at = time.time()


class Tasks:
    """Tasks by attempt; safe for several threads. Whoever takes one out answers for it."""

    def __init__(self) -> None:
        self._tasks: dict[AttemptId, Task] = {}
        self._changed = threading.Condition()

    def add(self, assignment: Assignment) -> None:
        """Take in an attempt."""
        with self._changed:
            self._tasks[assignment.attempt] = Task(assignment)

    def get(self, attempt: AttemptId) -> Task | None:
        """Return the task of an attempt that is not answered."""
        return self._tasks.get(attempt)

    def take(self, attempt: AttemptId) -> Task | None:
        """Take a task out; None when somebody was faster."""
        with self._changed:
            return self._tasks.pop(attempt, None)

    def all(self) -> list[Task]:
        """Return all that are not answered; they stay until they are."""
        with self._changed:
            return list(self._tasks.values())

    def attempts(self) -> list[AttemptId]:
        """Return the attempts that are not answered."""
        with self._changed:
            return list(self._tasks)

    def under_way(self) -> list[Task]:
        """Return the tasks that Dask has."""
        with self._changed:
            return [task for task in self._tasks.values() if task.future is not None]

    def answered(self) -> None:
        """Wake who waits for answers."""
        with self._changed:
            self._changed.notify_all()

    def wait_for_answer(self, at_most_s: float) -> None:
        """Wait for the next answer."""
        with self._changed:
            if self._tasks:
                self._changed.wait(at_most_s)
