"""What a run waits for by the clock: retries, keys that another run holds, and deadlines."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

HELD_POLL_FIRST_S, HELD_POLL_MOST_S = 0.02, 0.5
"""Waits between looks at a key that another run holds; each is half as long again as the one before."""

RUN = ""
"""Stands for the whole run among the names of what has a deadline."""


class Timers:
    """Times by the scheduler's clock, in seconds."""

    __slots__ = ("_deadlines", "_held", "_retries")

    def __init__(self) -> None:
        self._retries: list[tuple[float, str]] = []
        self._held: dict[str, tuple[float, float]] = {}
        self._deadlines: list[tuple[float, str]] = []

    def retry_at(self, time: float, node: str) -> None:
        """Have a node tried again at a time."""
        heapq.heappush(self._retries, (time, node))

    def hold(self, node: str, now: float) -> None:
        """Have a node looked up again after a while, longer each time."""
        _, wait = self._held.get(node, (0.0, HELD_POLL_FIRST_S / 1.5))
        wait = min(wait * 1.5, HELD_POLL_MOST_S)
        self._held[node] = (now + wait, wait)

    def let_go(self, node: str) -> None:
        """Look for a node's key no more."""
        self._held.pop(node, None)

    def end_by(self, time: float, name: str) -> None:
        """Set a deadline for a node, a sub-pipeline or the run."""
        heapq.heappush(self._deadlines, (time, name))

    def retries_due(self, now: float) -> Iterator[str]:
        """Yield, once, the nodes whose retry is due."""
        while self._retries and self._retries[0][0] <= now:
            yield heapq.heappop(self._retries)[1]

    def held_due(self, now: float) -> list[str]:
        """Return the nodes to be looked up again."""
        return [node for node, (due, _) in self._held.items() if due <= now]

    def deadlines_due(self, now: float) -> Iterator[str]:
        """Yield, once, what is past its deadline."""
        while self._deadlines and self._deadlines[0][0] <= now:
            yield heapq.heappop(self._deadlines)[1]

    def next_due(self) -> float | None:
        """Return when something is due, None for never."""
        times = [due for due, _ in self._held.values()]
        times += [heap[0][0] for heap in (self._retries, self._deadlines) if heap]
        return min(times, default=None)

    def stop(self, *, deadlines: bool) -> None:
        """Forget retries and held keys; deadlines as well where they mean nothing any more."""
        self._retries.clear()
        self._held.clear()
        if deadlines:
            self._deadlines.clear()
