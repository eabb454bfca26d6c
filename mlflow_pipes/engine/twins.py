"""Twins: steps of one run with one key. One computes and the others wait for its result.

Between runs the ledger sees to it; it gives a run a key as often as that asks, under one claim.
"""

from __future__ import annotations


class Twins:
    """Which step of this run computes a key, and which wait for it."""

    __slots__ = ("_computing", "_waiting")

    def __init__(self) -> None:
        self._computing: dict[str, str] = {}
        self._waiting: dict[str, list[str]] = {}

    def join(self, key: str, node: str) -> str | None:
        """Wait for the step that computes *key*, and return it; with none, *node* computes it from now on: None."""
        computing = self._computing.setdefault(key, node)
        if computing == node:
            return None
        waiting = self._waiting.setdefault(key, [])
        if node not in waiting:
            waiting.append(node)
        return computing

    def land(self, key: str, node: str) -> list[str]:
        """Take that *node* computes *key* no longer, and return the steps that waited for it."""
        if self._computing.get(key) != node:
            return []
        del self._computing[key]
        return self._waiting.pop(key, [])
