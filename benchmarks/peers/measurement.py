"""Rounds over tools and graphs, alternating; what came out, and what did not and why."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from benchmarks.peers.catalogue import Peer
from benchmarks.peers.contained import Outcome, own_folder, run_contained
from benchmarks.peers.environments import NotInstalledError, environ_of, python_of
from benchmarks.peers.notes import Notes

#: A tool and graph whose figures took longer than this in all are measured once.
ONCE_ABOVE_S = 60.0


@dataclass(frozen=True)
class Graph:
    """One of the graphs, in two sizes; ``steps_beside`` are those that do not count as its size."""

    name: str
    smaller: int
    full: int
    steps_beside: int = 0

    def size(self, which: str) -> int:
        """Return the size by name."""
        return self.smaller if which == "smaller" else self.full

    def steps(self, which: str) -> int:
        """Return how many steps it has."""
        return self.size(which) + self.steps_beside


GRAPHS = (Graph("chain", 20, 200), Graph("fan_out", 100, 1000, 2), Graph("map", 100, 1000))
TINY_GRAPHS = (Graph("chain", 2, 5), Graph("fan_out", 3, 8, 2), Graph("map", 3, 8))


@dataclass
class Measured:
    """All figures of one tool in one set-up.

    Attributes:
        values: seconds of every round by (graph, figure). versions: as the tool says. over_limit: (graph, figure) that
        took too long. not_tried: graphs that were not tried at full size. failures: what went wrong, in words.
    """

    peer: Peer
    values: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    version: str = ""
    over_limit: set[tuple[str, str]] = field(default_factory=set)
    not_tried: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, graph: str, figure: str) -> float | None:
        """Return the median of the rounds in seconds."""
        values = self.values.get((graph, figure))
        return statistics.median(values) if values else None

    def over_all_graphs(self, figure: str) -> list[float]:
        """Return the values of a figure that does not depend on the graph."""
        return [value for (_, name), values in self.values.items() if name == figure for value in values]


def measure(
    peers: Sequence[Peer], graphs: Sequence[Graph], notes: Notes, *, rounds: int, limit_s: float
) -> list[Measured]:
    """Measure every graph of every tool, one tool after the other in every round."""
    all_measured = [Measured(peer) for peer in peers]
    for number in range(1, rounds + 1):
        for graph in graphs:
            for one in all_measured:
                if _worth_measuring(one, graph, number):
                    sys.stdout.write(f"round {number} of {rounds}: {graph.name}, {one.peer.label}\n")
                    sys.stdout.flush()
                    _measure_one(one, graph, number, notes, limit_s)
    return all_measured


def _worth_measuring(one: Measured, graph: Graph, number: int) -> bool:
    """Return whether a round is worth its time: not after a failure, and no second one where the first took minutes."""
    if number == 1 or "all" in one.failures:
        return "all" not in one.failures
    if graph.name in one.failures or any(name == graph.name for name, _ in one.over_limit):
        return False
    took = sum(values[0] for (name, _), values in one.values.items() if name == graph.name)
    return graph.name not in one.not_tried and took < ONCE_ABOVE_S


def _measure_one(one: Measured, graph: Graph, number: int, notes: Notes, limit_s: float) -> None:
    name = f"round {number}, {graph.name}, {one.peer.label}"
    try:
        done = notes.outcome(name, lambda: _carried_out(one.peer, graph, limit_s))
    except NotInstalledError as error:
        one.failures["all"] = f"cannot be installed: {error}"
        return
    under_way = _take(one, graph.name, done.stdout)
    if done.exit_code is None:
        one.over_limit.add((graph.name, under_way))
    elif done.exit_code:
        one.failures[graph.name] = done.reason


def _carried_out(peer: Peer, graph: Graph, limit_s: float) -> Outcome:
    python = python_of(peer)
    with own_folder() as folder:
        state = folder / "state"
        state.mkdir()
        sizes = [str(graph.smaller), str(graph.full), str(limit_s), str(state)]
        return run_contained(
            [python, peer.script, peer.variant, graph.name, *sizes],
            folder,
            cwd=state,
            quiet_s=limit_s,
            environ=environ_of(peer),
        )


def _take(one: Measured, graph: str, stdout: str) -> str:
    """Take in the figures of a process; return the one that was under way at its end."""
    under_way = "cold_s"
    for line in stdout.splitlines():
        if not line.startswith('{"figure"'):
            continue
        figure, value = itemgetter("figure", "value")(json.loads(line))
        match figure:
            case "version":
                one.version = value
            case "under_way":
                under_way = value
            case "full_not_tried":
                one.not_tried.add(graph)
            case _:
                one.values[graph, figure].append(value)
    return under_way
