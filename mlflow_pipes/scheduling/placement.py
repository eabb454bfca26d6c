"""Room on a compute target: which ready step may start now, so that the target is never overfull."""

from __future__ import annotations

import heapq

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions

PASSED_OVER_AT_MOST = 16
"""A step too big for the room left lets smaller ones pass this often; then room is kept free for it."""

_Entry = tuple[tuple[int, float, int], str, StepOptions]


class TargetRoom:
    """The ready steps of one target and what is free on it.

    Order: larger priority first, then longer critical path, then earlier declaration. Cost of each call: O(log n),
    besides at most :data:`PASSED_OVER_AT_MOST` entries that do not fit.
    """

    __slots__ = ("_capacity", "_cpus", "_memory_bytes", "_passed_over", "_ready", "_slots", "name")

    def __init__(self, name: str, capacity: Capacity) -> None:
        self.name = name
        self._capacity = capacity
        self._cpus = capacity.cpus
        self._memory_bytes = capacity.memory_bytes
        self._slots = capacity.slots
        self._ready: list[_Entry] = []
        self._passed_over: dict[str, int] = {}

    def check(self, node: str, options: StepOptions) -> None:
        """Raise ``ConfigurationError`` when the target can never hold the step."""
        asked = [
            (f"cpus={options.cpus:g}", options.cpus > self._capacity.cpus, f"{self._capacity.cpus:g} cpus"),
            (
                f"memory={options.memory_bytes:,} bytes",
                0 < self._capacity.memory_bytes < options.memory_bytes,
                f"{self._capacity.memory_bytes:,} bytes",
            ),
        ]
        for request, too_big, room in asked:
            if too_big:
                raise ConfigurationError(
                    f"step {node!r} asks for {request}, but target {self.name!r} has {room} in all: "
                    f"ask for less, or name a larger target with {node}.options(target=...)"
                )

    def offer(self, node: str, rank: tuple[int, float, int], options: StepOptions) -> None:
        """Add a ready step; a smaller *rank* goes first."""
        heapq.heappush(self._ready, (rank, node, options))

    def take(self) -> str | None:
        """Remove and return the step that should start now and occupy its room, or None."""
        if self._slots <= 0:
            return None
        skipped: list[_Entry] = []
        chosen = None
        while self._ready and chosen is None:
            entry = heapq.heappop(self._ready)
            _, node, options = entry
            if self._fits(options):
                chosen = node
                self._occupy(options, 1)
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

    def release(self, options: StepOptions) -> None:
        """Free the room of an attempt that has ended."""
        self._occupy(options, -1)

    def clear(self) -> None:
        """Forget all steps that were ready."""
        self._ready.clear()

    def _fits(self, options: StepOptions) -> bool:
        if options.cpus > self._cpus + 1e-9:
            return False
        return self._capacity.memory_bytes == 0 or options.memory_bytes <= self._memory_bytes

    def _occupy(self, options: StepOptions, times: int) -> None:
        self._slots -= times
        self._cpus -= times * options.cpus
        self._memory_bytes -= times * options.memory_bytes
