"""How long each node of a graph is expected to take, from what the ledger knows of it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from mlflow_pipes.model.graph import Graph
from mlflow_pipes.quick_dataclasses import dataclass

UNKNOWN_S = 1.0
"""What is taken for a node of which nothing is known, where nothing is known of any other either."""

Source: TypeAlias = Literal["node", "step", "guess"]


@dataclass(frozen=True, slots=True)
class Expected:
    """How long nodes are expected to take, in seconds, and how that is known.

    Attributes:
        seconds: by node id.
        sources: by node id: ``node``, the node itself was seen; ``step``, other calls of its step were; ``guess``.
        guess_s: what was taken for each node guessed.
    """

    seconds: Mapping[str, float]
    sources: Mapping[str, Source]
    guess_s: float


def expected(
    graph: Graph,
    *,
    took: Iterable[tuple[str, str, float]],
    estimates: Mapping[str, float],
    guess_s: float | None = None,
) -> Expected:
    """Return how long each node of *graph* is expected to take.

    Args:
        graph: whose nodes are asked for.
        took: (node, step's name, seconds), newest first; of each node the first counts.
        estimates: older durations by node, for nodes not among these.
        guess_s: for nodes of which nothing is known; by default the mean of what is known of others.

    Cost: O(nodes + took).
    """
    known: dict[str, float] = {}
    by_step: dict[str, list[float]] = {}
    for node, name, seconds in took:
        if node not in known:
            known[node] = seconds
            by_step.setdefault(name, []).append(seconds)
    known = {**estimates, **known}
    for call in graph.nodes.values():
        if call.step.name not in by_step and call.id in known:
            by_step.setdefault(call.step.name, []).append(known[call.id])
    means = {name: sum(of_step) / len(of_step) for name, of_step in by_step.items()}
    if guess_s is None:
        guess_s = sum(known.values()) / len(known) if known else UNKNOWN_S
    seconds_of: dict[str, float] = {}
    sources: dict[str, Source] = {}
    for call in graph.nodes.values():
        if call.id in known:
            seconds_of[call.id], sources[call.id] = known[call.id], "node"
        elif call.step.name in means:
            seconds_of[call.id], sources[call.id] = means[call.step.name], "step"
        else:
            seconds_of[call.id], sources[call.id] = guess_s, "guess"
    return Expected(seconds_of, sources, guess_s)
