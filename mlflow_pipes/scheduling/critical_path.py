"""The chain of steps and waits that a run's length is made of, from when each step ran. Pure.

Read backwards: the step that ended last could not start before the last of its inputs was there; or, when it started
later than that, before a step that filled its target had ended; and so on to the run's beginning.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from mlflow_pipes.quick_dataclasses import dataclass

Because: TypeAlias = Literal["start", "input", "room", "key"]


@dataclass(frozen=True, slots=True)
class Timed:
    """When a step ran, in seconds on one clock.

    Attributes:
        parents: nodes that it waited for.
        target: where it ran; empty when it took no room, because its output was reused.
    """

    node: str
    parents: tuple[str, ...]
    target: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a critical path.

    Attributes:
        start, end: when it ran; never before the link above it had ended.
        waited_s: from the end of the link above it (or the run's beginning) to its start.
        because: what it waited for: an ``input``; ``room`` on its target (a step there ended while it waited); a
            ``key``, until who computed the same had the output that it took; or only the run's ``start``.
        after: the node of the link above it, None for the first.
    """

    node: str
    start: float
    end: float
    waited_s: float
    because: Because
    after: str | None

    @property
    def took_s(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


def critical_path(steps: Sequence[Timed], begin: float, *, least_wait_s: float = 0.0) -> tuple[Link, ...]:
    """Return the chain of steps that made the run as long as it was, first to last; none for no steps.

    Waits and durations of the links fill the time from *begin* to the end of the last step without gap or overlap,
    also where clocks of several machines disagree (times are cut to what the link below leaves).

    Args:
        steps: that ran or were reused.
        begin: when the run began.
        least_wait_s: a step that starts at most so long after its last input is taken to have waited for that alone.

    Cost: O(steps · log steps + edges of the path).
    """
    if not steps:
        return ()
    known = {step.node: step for step in steps}
    occupants = _Occupants(step for step in steps if step.target and step.end > begin)
    links: list[Link] = []
    step = max(steps, key=lambda one: (one.end, one.start))
    moment = max(step.end, begin)
    while True:
        start = min(max(step.start, begin), moment)
        parents = [known[parent] for parent in step.parents if parent in known]
        above = max(parents, key=lambda one: (one.end, one.start), default=None)
        ready = begin if above is None else max(above.end, begin)
        because: Because = "start" if above is None else "input"
        if start - ready > least_wait_s:
            freed = occupants.last_ended(step.target, start)
            if not step.target:
                because = "key"
            elif freed is not None and freed.end > ready:
                above, because = freed, "room"
        since = begin if above is None else min(max(above.end, begin), start)
        links.append(Link(step.node, start, moment, start - since, because, None if above is None else above.node))
        if above is None:
            return tuple(reversed(links))
        step, moment = above, since


class _Occupants:
    """The steps of each target by the moment at which they left it."""

    def __init__(self, steps: Iterable[Timed]) -> None:
        self._steps: dict[str, list[Timed]] = {}
        for step in sorted(steps, key=lambda one: one.end):
            self._steps.setdefault(step.target, []).append(step)
        self._ends = {target: [step.end for step in left] for target, left in self._steps.items()}

    def last_ended(self, target: str, moment: float) -> Timed | None:
        """Return the step that left last before or at *moment*, of those that had started before it.

        So starts go strictly down along links for room, and no chain of links is endless.
        """
        for index in range(bisect_right(self._ends.get(target, []), moment) - 1, -1, -1):
            step = self._steps[target][index]
            if step.start < moment:
                return step
        return None
