"""How many steps of a sub-pipeline, of a map, or of the whole run may be under way at once (``max_parallel``)."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Rank = tuple[int, float, int]

RUN = ""
"""Stands for the whole run among the containers."""


class Admission:
    """Lets steps in while their containers have room, in the order of their ranks.

    A step takes room in every limited container around it, from its first try until it has ended; or has returned
    calls, for these take room themselves.

    Args:
        around: gives what a step or container stands in, None at the top.
    """

    __slots__ = ("_around", "_inside", "_limits", "_taken", "_turned_away", "_waiting")

    def __init__(self, around: Callable[[str], str | None]) -> None:
        self._around = around
        self._limits: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        self._turned_away: dict[str, list[tuple[Rank, str]]] = {}
        self._waiting: set[str] = set()
        self._inside: dict[str, list[str]] = {}

    def limit(self, container: str, at_most: int | None) -> None:
        """Limit a container, before any step of it is admitted."""
        if at_most is not None:
            self._limits[container] = at_most
            self._taken[container] = 0
            self._turned_away[container] = []

    def admit(self, node: str, rank: Rank) -> bool:
        """Let a step in and return True; else keep it until there is room, and return False."""
        if not self._limits or node in self._inside:
            return True
        limited = self._limited_around(node)
        for container in limited:
            if self._taken[container] >= self._limits[container]:
                heapq.heappush(self._turned_away[container], (rank, node))
                self._waiting.add(node)
                return False
        for container in limited:
            self._taken[container] += 1
        self._waiting.discard(node)
        self._inside[node] = limited
        return True

    def leave(self, node: str) -> list[str]:
        """Take that a step has ended; return those that were kept waiting and are let in now."""
        self._waiting.discard(node)
        left = self._inside.pop(node, ())
        for container in left:
            self._taken[container] -= 1
        admitted: list[str] = []
        for container in left:
            waiting = self._turned_away[container]
            while waiting and self._taken[container] < self._limits[container]:
                rank, first = heapq.heappop(waiting)
                if first in self._waiting and self.admit(first, rank):
                    admitted.append(first)
        return admitted

    def clear(self) -> None:
        """Forget all that were kept waiting."""
        self._waiting.clear()

    def _limited_around(self, node: str) -> list[str]:
        found = [RUN] if RUN in self._limits else []
        container = self._around(node)
        while container is not None:
            if container in self._limits:
                found.append(container)
            container = self._around(container)
        return found
