"""Room on a compute target: which ready step may start now, so that the target is never overfull."""

from __future__ import annotations

import heapq
import math
from operator import add, le, sub

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.resources import TOLERANCE, Vector, asked, owned, too_much

PASSED_OVER_AT_MOST = 16
"""A step too big for the room left lets smaller ones pass this often; then room is kept free for it."""

Rank = tuple[int, float, int]
_Entry = tuple[Rank, str, Vector]


class TargetRoom:
    """The ready steps of one target and what is free on it.

    Order: larger priority first, then longer critical path, then earlier declaration. Cost of each call: O(log n),
    besides at most :data:`PASSED_OVER_AT_MOST` entries that do not fit.
    """

    __slots__ = ("_free", "_gpus", "_numbered", "_occupied", "_owned", "_passed_over", "_ready", "_slots", "name")

    def __init__(self, name: str, capacity: Capacity) -> None:
        self.name = name
        self._owned = owned(capacity)
        self._free = tuple([amount + TOLERANCE for amount in self._owned])
        self._slots = capacity.slots
        self._numbered = int(capacity.gpus) if capacity.gpus < math.inf else 0
        self._gpus = list(range(self._numbered))
        self._ready: list[_Entry] = []
        self._occupied: dict[str, tuple[Vector, tuple[int, ...]]] = {}
        self._passed_over: dict[str, int] = {}

    def resize(self, capacity: Capacity) -> None:
        """Have more room or less; what is in it stays, so that there may be less than none for a while."""
        self._owned = owned(capacity)
        self._slots = capacity.slots - len(self._occupied)
        self._free = tuple([amount + TOLERANCE for amount in self._owned])
        for amounts, _ in self._occupied.values():
            self._free = tuple(map(sub, self._free, amounts))
        taken = {number for _, gpus in self._occupied.values() for number in gpus}
        self._numbered = int(capacity.gpus) if capacity.gpus < math.inf else 0
        self._gpus = [number for number in range(self._numbered) if number not in taken]

    def check(self, node: str, options: StepOptions) -> None:
        """Raise ``ConfigurationError`` when the target can never hold the step."""
        told = too_much(node, options, self.name, self._owned)
        if told:
            raise ConfigurationError(f"{told}: ask for less, or name a larger target with {node}.options(target=...)")

    def offer(self, node: str, rank: Rank, options: StepOptions) -> None:
        """Add a ready step; a smaller *rank* goes first."""
        heapq.heappush(self._ready, (rank, node, asked(options)))

    def take(self) -> str | None:
        """Remove and return the step that should start now and occupy its room, or None."""
        if self._slots <= 0:
            return None
        skipped: list[_Entry] = []
        chosen = None
        while self._ready and chosen is None:
            entry = heapq.heappop(self._ready)
            _, node, amounts = entry
            if self._fits(amounts):
                chosen = node
                self._occupy(node, amounts)
                self._passed_over.pop(node, None)
                continue
            skipped.append(entry)
            passes = self._passed_over.get(node, 0)
            if passes >= PASSED_OVER_AT_MOST or len(skipped) > PASSED_OVER_AT_MOST:
                break
        if chosen is not None:
            for _, node, _ in skipped:
                self._passed_over[node] = self._passed_over.get(node, 0) + 1
        for entry in skipped:
            heapq.heappush(self._ready, entry)
        return chosen

    def gpus_of(self, node: str) -> tuple[int, ...]:
        """Return the numbers of the graphics processors that a step has, which has room."""
        return self._occupied[node][1]

    def release(self, node: str) -> None:
        """Free the room of an attempt that has ended."""
        amounts, gpus = self._occupied.pop(node)
        self._slots += 1
        self._free = tuple(map(add, self._free, amounts))
        if gpus:  # what the target has lost meanwhile is not free again
            self._gpus = sorted([*self._gpus, *(number for number in gpus if number < self._numbered)])

    def clear(self) -> None:
        """Forget all steps that were ready."""
        self._ready.clear()

    def _fits(self, amounts: Vector) -> bool:
        return all(map(le, amounts, self._free))

    def _occupy(self, node: str, amounts: Vector) -> None:
        self._slots -= 1
        self._free = tuple(map(sub, self._free, amounts))
        gpus: tuple[int, ...] = ()
        count = int(amounts[-1])
        if count and not self._numbered:  # the target gives them itself: it is told how many
            gpus = tuple(range(count))
        elif count:
            gpus, self._gpus = tuple(self._gpus[:count]), self._gpus[count:]
        self._occupied[node] = (amounts, gpus)
