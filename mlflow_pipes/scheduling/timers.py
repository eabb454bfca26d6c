"""What a run waits for by the clock: retries, keys and tokens that others hold, and deadlines."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

HELD_POLL_FIRST_S, HELD_POLL_MOST_S = 0.02, 0.5
"""Waits between looks at a key that another run holds; each is half as long again as the one before."""

TOKENS_POLL_MOST_S = 0.25
"""The longest wait between two requests for tokens: so long they may lie idle when another run gives them back."""

RUN = ""
"""Stands for the whole run among the names of what has a deadline."""


class Polls:
    """When to look again at what others hold, less and less often."""

    __slots__ = ("_due", "_most_s")

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._due: dict[str, tuple[float, float]] = {}

    def hold(self, name: str, now: float) -> None:
        """Look again after a while, longer each time."""
        _, wait = self._due.get(name, (0.0, HELD_POLL_FIRST_S / 1.5))
        wait = min(wait * 1.5, self._most_s)
        self._due[name] = (now + wait, wait)

    def looking(self, name: str) -> None:
        """Note that somebody looks now; when to do that again is told by :meth:`hold`."""
        if name in self._due:
            self._due[name] = (math.inf, self._due[name][1])

    def let_go(self, name: str) -> None:
        """Look no more; the next wait is short again."""
        self._due.pop(name, None)

    def due(self, now: float) -> list[str]:
        """Return the names of what is to be looked at."""
        return [name for name, (due, _) in self._due.items() if due <= now]

    def next_due(self) -> float:
        """Return when something is due; infinity for never."""
        return min([due for due, _ in self._due.values()]) if self._due else math.inf

    def clear(self) -> None:
        """Look at nothing more."""
        self._due.clear()


class Timers:
    """Times by the scheduler's clock, in seconds.

    Attributes:
        tokens: when to ask again for tokens, by the name of the kind of request.
    """

    __slots__ = ("_deadlines", "_held", "_retries", "tokens")

    def __init__(self) -> None:
        self.tokens = Polls(TOKENS_POLL_MOST_S)
        self._retries: list[tuple[float, str]] = []
        self._held = Polls(HELD_POLL_MOST_S)
        self._deadlines: list[tuple[float, str]] = []

    def retry_at(self, time: float, node: str) -> None:
        """Have a node tried again at a time."""
        heapq.heappush(self._retries, (time, node))

    def hold(self, node: str, now: float) -> None:
        """Have a node looked up again after a while, longer each time."""
        self._held.hold(node, now)

    def let_go(self, node: str) -> None:
        """Look for a node's key no more."""
        self._held.let_go(node)

    def end_by(self, time: float, name: str) -> None:
        """Set a deadline for a node, a sub-pipeline or the run."""
        heapq.heappush(self._deadlines, (time, name))

    def retries_due(self, now: float) -> Iterator[str]:
        """Yield, once, the nodes whose retry is due."""
        while self._retries and self._retries[0][0] <= now:
            yield heapq.heappop(self._retries)[1]

    def held_due(self, now: float) -> list[str]:
        """Return, once, the nodes to be looked up again; the answer says whether to hold them further."""
        found = self._held.due(now)
        for node in found:
            self._held.looking(node)
        return found

    def deadlines_due(self, now: float) -> Iterator[str]:
        """Yield, once, what is past its deadline."""
        while self._deadlines and self._deadlines[0][0] <= now:
            yield heapq.heappop(self._deadlines)[1]

    def next_due(self) -> float | None:
        """Return when something is due, None for never."""
        times = [heap[0][0] for heap in (self._retries, self._deadlines) if heap]
        first = min(self._held.next_due(), self.tokens.next_due(), *times)
        return first if first < math.inf else None

    def stop(self, *, deadlines: bool) -> None:
        """Forget retries and what others hold; deadlines as well where they mean nothing any more."""
        self._retries.clear()
        self._held.clear()
        self.tokens.clear()
        if deadlines:
            self._deadlines.clear()
