"""Which attempt goes to which task of Spark's, how many further tasks to ask for, and who is sent away. Knows no clock.

A task takes one attempt after the other for a while: to begin one costs Spark more than most attempts take, and what
goes where is decided at the last moment. Tasks belong to no attempt until they come, so Spark may begin a task twice,
late, or somewhere else: it is one more that comes for work, and no attempt is done twice for it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mlflow_pipes.model.attempt import AttemptId

LINGER_S = 0.5
"""A task for which there is nothing to do is kept so long: the next step may follow from the last."""

SHIFT_S = 15.0
"""After so long a task is given nothing more, so that others who use the cluster have their turn."""

_MOST_AT_ONCE = 1000
_TOLERANCE = 1e-9


class Given(NamedTuple):
    """An attempt, and the number of the task that is to do it."""

    attempt: AttemptId
    task: int


@dataclass
class _Task:
    host: str
    came_at: float
    idle_since: float
    given: list[AttemptId] = field(default_factory=list)
    stands_by_for: AttemptId | None = None
    is_leaving: bool = False

    @property
    def is_free(self) -> bool:
        return not (self.given or self.is_leaving or self.stands_by_for is not None)


@dataclass
class _Job:
    asked: int
    came: int = 0


class Board:
    """What waits, and the tasks that are there or asked for."""

    def __init__(self) -> None:
        self.task_cpus = 1.0
        self._waiting: OrderedDict[AttemptId, int] = OrderedDict()
        self._tasks: dict[int, _Task] = {}
        self._jobs: dict[str, _Job] = {}
        self._moved_at = -math.inf

    # --- what happens ---------------------------------------------------------------------------------------------

    def add(self, attempt: AttemptId, cpus: float, now: float) -> None:
        """Take in an attempt."""
        if not self._waiting:
            self._moved_at = max(self._moved_at, now)
        self._waiting[attempt] = max(1, math.ceil(cpus / self.task_cpus - _TOLERANCE))

    def drop(self, attempt: AttemptId) -> bool:
        """Forget an attempt that waits; tell whether it did."""
        return self._waiting.pop(attempt, None) is not None

    def waiting(self) -> list[AttemptId]:
        """Return the attempts that were given to nobody."""
        return list(self._waiting)

    def asked(self, job: str, count: int) -> None:
        """Take note that tasks were asked for."""
        self._jobs[job] = _Job(count)

    def job_ended(self, job: str) -> bool:
        """Take note that no more tasks of a job will come; tell whether any did."""
        ended = self._jobs.pop(job, None)
        return ended is not None and ended.came > 0

    def no_jobs(self) -> None:
        """Take note that no task that was asked for will come any more."""
        self._jobs.clear()

    def came(self, task: int, host: str, job: str, now: float) -> None:
        """Take note of a task that is there."""
        self._tasks[task] = _Task(host, now, now)
        if job in self._jobs:
            self._jobs[job].came += 1
        self._moved_at = now

    def left(self, task: int) -> list[AttemptId]:
        """Take note that a task is gone; return what it had."""
        gone = self._tasks.pop(task, None)
        for attempt in gone.given if gone else ():
            self._relieve(attempt)
        return gone.given if gone else []

    def answered(self, attempt: AttemptId, now: float) -> None:
        """Take note that an attempt was done, or at least answered."""
        for task in self._tasks.values():
            if attempt in task.given:
                task.given.remove(attempt)
                task.idle_since = now
        self._relieve(attempt)
        self._moved_at = now

    def task_of(self, attempt: AttemptId) -> int | None:
        """Return who has an attempt."""
        return next((number for number, task in self._tasks.items() if attempt in task.given), None)

    # --- what to do -----------------------------------------------------------------------------------------------

    def place(self, now: float, may_have: Callable[[AttemptId], int] = lambda _: 1) -> list[Given]:
        """Give what waits to tasks, in order; return what was given.

        An attempt that asks for the processors of several tasks has others of the same host stand by.

        Args:
            now: seconds from some zero.
            may_have: tells of an attempt how many a task may have of which it is one; it does one after the other.
        """
        placed = []
        free = [number for number, task in self._tasks.items() if task.is_free and not self._is_old(task, now)]
        while self._waiting and free:
            attempt, needed = next(iter(self._waiting.items()))
            chosen = self._of_one_host(free, needed)
            if not chosen:
                break
            for number in chosen:
                free.remove(number)
                self._tasks[number].stands_by_for = attempt
            placed.append(self._give(attempt, chosen[0]))
        while self._waiting and not free:
            attempt, needed = next(iter(self._waiting.items()))
            behind = None if needed > 1 else self._behind(attempt, may_have, now)
            if behind is None:
                break
            placed.append(self._give(attempt, behind))
        if placed:
            self._moved_at = now
        return placed

    def dismissed(self, now: float) -> list[int]:
        """Return the tasks that are to be sent away, which they are from now on."""
        gone = []
        for number, task in self._tasks.items():
            is_of_no_use = not self._waiting and now >= task.idle_since + LINGER_S
            if task.is_free and (is_of_no_use or self._is_old(task, now)):
                task.is_leaving = True
                gone.append(number)
        return gone

    def wanted(self, most: float) -> int:
        """Return how many further tasks to ask for, when there may be *most*."""
        staying = [task for task in self._tasks.values() if not task.is_leaving]
        expected = sum(max(0, job.asked - job.came) for job in self._jobs.values())
        free = sum(task.is_free for task in staying)
        lacking = sum(self._waiting.values()) - free - expected
        return max(0, int(min(lacking, most - len(staying) - expected, _MOST_AT_ONCE)))

    def present(self) -> int:
        """Return how many tasks are there."""
        return len(self._tasks)

    def stuck_s(self, now: float) -> float:
        """Return for how long something waits and nothing happens."""
        if not self._waiting or any(task.given for task in self._tasks.values()):
            return 0.0
        return now - self._moved_at

    def next_due(self) -> float:
        """Return when to look again; infinity for never."""
        if self._waiting:
            return math.inf
        return min((task.idle_since + LINGER_S for task in self._tasks.values() if task.is_free), default=math.inf)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _give(self, attempt: AttemptId, number: int) -> Given:
        del self._waiting[attempt]
        task = self._tasks[number]
        task.given.append(attempt)
        task.stands_by_for = None
        return Given(attempt, number)

    def _of_one_host(self, free: list[int], needed: int) -> list[int]:
        by_host: dict[str, list[int]] = {}
        for number in free:
            on_host = by_host.setdefault(self._tasks[number].host, [])
            on_host.append(number)
            if len(on_host) == needed:
                return on_host
        return []

    def _behind(self, attempt: AttemptId, may_have: Callable[[AttemptId], int], now: float) -> int | None:
        """Return the task that does the fewest of those that can have one more, short ones all."""
        best, fewest = None, may_have(attempt)
        for number, task in self._tasks.items():
            count = len(task.given)
            takes_more = 0 < count < fewest and not task.is_leaving and not self._is_old(task, now)
            if takes_more and min(map(may_have, task.given)) > count:
                best, fewest = number, count
        return best

    def _relieve(self, attempt: AttemptId) -> None:
        for task in self._tasks.values():
            if task.stands_by_for == attempt:
                task.stands_by_for = None

    def _is_old(self, task: _Task, now: float) -> bool:
        return now - task.came_at > SHIFT_S
