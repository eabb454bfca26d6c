"""Which steps wait for which others."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_pipes.model.graph import StepNode


class Dependencies:
    """The edges of a graph that may grow, and what of them is still missing. Cost of each call: O(edges touched)."""

    __slots__ = ("_children", "_missing", "_parents", "_tolerated")

    def __init__(self) -> None:
        self._parents: dict[str, frozenset[str]] = {}
        self._tolerated: dict[str, frozenset[str]] = {}
        self._missing: dict[str, set[str]] = {}
        self._children: dict[str, list[str]] = {}

    def add(self, node: StepNode) -> bool:
        """Add a node whose parents have not ended; tell whether it waits for nothing."""
        parents = self._parents[node.id] = node.parents
        self._missing[node.id] = set(parents)
        for parent in parents:
            self._children.setdefault(parent, []).append(node.id)
        if node.tolerated_parents:
            self._tolerated[node.id] = node.tolerated_parents
        return not parents

    def children(self, node: str) -> Iterable[str]:
        """Return those that wait for a node, or did."""
        return self._children.get(node, ())

    def parents(self, node: str) -> frozenset[str]:
        """Return those that a node waits for, or did."""
        return self._parents[node]

    def tolerates(self, node: str, parent: str) -> bool:
        """Tell whether a node can do with the failure of one of its parents."""
        return parent in self._tolerated.get(node, ())

    def required(self, node: str) -> frozenset[str]:
        """Return the parents that must end well."""
        return self._parents[node].difference(self._tolerated.get(node, ()))

    def arrived(self, parent: str, child: str) -> bool:
        """Take that a parent is there (or its failure, where that will do); tell whether nothing is missing now."""
        missing = self._missing[child]
        missing.discard(parent)
        return not missing

    def wait_again(self, node: str, missing: set[str]) -> bool:
        """Have a node wait for some of its parents, or others, again; tell whether it waits for none."""
        self._missing[node] = missing
        for other in missing - self._parents[node]:
            if node not in self._children.setdefault(other, []):
                self._children[other].append(node)
        return not missing
