"""When workers are looked at while they do an attempt, and what is told of it. Pure.

An attempt that is over within two seconds costs nothing: no worker measures itself, its zygote does when asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_pipes.model.attempt import UsageSample

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import AttemptId
    from mlflow_pipes.targets.local import wire

FIRST_LOOK_S = 2.0
"""An attempt as old as this is looked at for the first time."""

_SECOND_LOOK_S = 0.5  # after the first, which tells only what the process had used before
_SHORTEST_S = 2.0
_LONGEST_S = 60.0
_SPARSER = 20  # what is this much older is looked at that much more seldom


def next_look_s(age_s: float) -> float:
    """Return how long after a look at an attempt of that age the next one is due.

    >>> [next_look_s(age) for age in (2.5, 100.0, 86_400.0)]
    [2.0, 5.0, 60.0]
    """
    return min(_LONGEST_S, max(_SHORTEST_S, age_s / _SPARSER))


class Looks:
    """The looks at one attempt.

    Args:
        began: when it did, by the clock that *due* is by.

    Attributes:
        due: when the next look is.
    """

    __slots__ = ("_before", "_began", "_is_first", "due")

    def __init__(self, began: float) -> None:
        self._began = began
        self._is_first = True
        self._before: wire.Measured | None = None
        self.due = began + FIRST_LOOK_S

    def looked(self, now: float) -> None:
        """Take note that it was looked at."""
        self.due = now + (_SECOND_LOOK_S if self._is_first else next_look_s(now - self._began))
        self._is_first = False

    def sample(self, attempt: AttemptId, measured: wire.Measured) -> UsageSample | None:
        """Return what is told of a look; None of the first, and of one that is not later than the one before."""
        before, self._before = self._before, measured
        if before is None or measured.at <= before.at:
            return None
        cpus = max(0.0, measured.cpu_s - before.cpu_s) / (measured.at - before.at)
        return UsageSample(attempt, measured.at, cpus, measured.memory_bytes, measured.gpus)
