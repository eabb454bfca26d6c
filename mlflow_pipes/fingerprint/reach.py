"""What code reaches, as a graph, and its canonical digest.

A :class:`Node` is a definition; its edges carry the names under which it uses other things. The digest numbers the
nodes in the order of a breadth-first walk along sorted labels, so it is the same for the same graph, whatever the
modules and folders are called, and cycles (functions that call each other) need no special treatment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import NamedTuple, TypeAlias

from mlflow_pipes.digests import Part, digest_record
from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.quick_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class External:
    """Something known by version: *distribution* is ``python`` for the interpreter with its library."""

    distribution: str
    version: str
    name: str


@dataclass(frozen=True, slots=True)
class Value:
    """A value known by content. ``("at", n)`` in *part* stands for the n-th of *references*.

    Attributes:
        kind, name: for people, not in the digest; without a kind it is no leaf of its own.
    """

    kind: str
    name: str
    part: Part
    references: tuple[Target, ...] = ()


@dataclass(eq=False, slots=True)
class Node:
    """A definition known by its code. *link* fills in ``content`` and ``edges`` when the walk arrives.

    Attributes:
        content: hash of its own normalised code.
        edges: what it uses, by the name under which it does.
    """

    kind: str
    name: str
    link: Callable[[Node], None]
    content: str = ""
    edges: Mapping[str, Target] = field(default_factory=dict)


Target: TypeAlias = External | Value | Node
# What a name stands for (None for a built-in), and how many of the attributes read from it that used up.
Found: TypeAlias = tuple[Target | None, int]


class Survey(NamedTuple):
    """What there is of everything reachable: its digest, its leaves, and its digest without versions."""

    digest: str
    leaves: list[CodeLeaf]
    shape: str


def survey(roots: Mapping[str, Target]) -> Survey:
    """Return the digest of everything reachable from *roots*, and its leaves. O(nodes + edges)."""
    return _Survey().run(roots)


class _Survey:
    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._queue: deque[tuple[Node, tuple[str, ...]]] = deque()
        self._leaves: dict[tuple[str, str, str], CodeLeaf] = {}

    def run(self, roots: Mapping[str, Target]) -> Survey:
        parts: list[Part] = [self._edges(roots, ())]
        nodes = []
        while self._queue:
            node, via = self._queue.popleft()
            node.link(node)
            edges = self._edges(node.edges, (*via, node.name))
            parts.append((node.kind, node.content, edges))
            nodes.append(node)
            self._leaf(node.kind, node.name, node.content, via)
        shapes = [self._shape(roots), *((node.kind, node.content, self._shape(node.edges)) for node in nodes)]
        leaves = _named_apart(list(self._leaves.values()))
        return Survey(digest_record("pipes.code/1", parts), leaves, digest_record("pipes.code-shape/1", shapes))

    def _shape(self, edges: Mapping[str, Target]) -> Part:
        """Return edges without versions, and of what is not first-party only the modules, installed here or not.

        What is used of these stands in the code itself; which distribution they are of depends on the machine.
        """
        outside = {found for label, target in edges.items() if (found := _shape_of_outside(label, target)) is not None}
        inside = {label: target for label, target in edges.items() if _shape_of_outside(label, target) is None}
        return (tuple(sorted(outside)), tuple((label, self._inside(inside[label])) for label in sorted(inside)))

    def _inside(self, target: Target) -> Part:
        if isinstance(target, Value):
            inner = tuple(_shape_of_outside("", item) or self._inside(item) for item in target.references)
            return ("value", target.part, inner)
        return ("node", self._numbers[id(target)])

    def _edges(self, edges: Mapping[str, Target], via: tuple[str, ...]) -> Part:
        return tuple((label, self._part(edges[label], via)) for label in sorted(edges))

    def _part(self, target: Target, via: tuple[str, ...]) -> Part:
        if isinstance(target, Node):
            number = self._numbers.get(id(target))
            if number is None:
                number = self._numbers[id(target)] = len(self._numbers)
                self._queue.append((target, via))
            return ("node", number)
        if isinstance(target, External):
            kind = "python" if target.distribution == "python" else "distribution"
            self._leaf(kind, target.distribution, target.version, via)
            return ("external", target.distribution, target.version, target.name)
        below = via
        if target.kind:
            self._leaf(target.kind, target.name, digest_record("pipes.value/1", (target.part,)), via)
            below = (*via, target.name)
        return ("value", target.part, tuple(self._part(item, below) for item in target.references))

    def _leaf(self, kind: str, name: str, digest: str, via: tuple[str, ...]) -> None:
        self._leaves.setdefault((kind, name, digest), CodeLeaf(kind, name, digest, via))


def _shape_of_outside(label: str, target: Target) -> tuple[str, str, str] | None:
    """Return what stands for an edge to something that is not first-party, None for other edges."""
    if isinstance(target, External):
        return (label.partition(".")[0], "outside", target.name.partition(":")[0])
    if isinstance(target, Value) and target.kind == "missing":
        return (label.partition(".")[0], "outside", target.name)
    return None


def _named_apart(leaves: list[CodeLeaf]) -> list[CodeLeaf]:
    """Number leaves that share kind and name (closures of one factory), in the order the walk met them."""
    seen: dict[tuple[str, str], int] = {}
    apart = []
    for leaf in leaves:
        count = seen[leaf.kind, leaf.name] = seen.get((leaf.kind, leaf.name), 0) + 1
        apart.append(leaf if count == 1 else CodeLeaf(leaf.kind, f"{leaf.name}#{count}", leaf.digest, leaf.via))
    return sorted(apart, key=lambda leaf: (leaf.kind, leaf.name))
