"""What a run will have to do first, guessed before the ledger is open, so that workers start meanwhile.

Opening a ledger takes 0.4 s of imports. A glance asks its file with the bare driver, in 1 ms. It may be wrong: then a
worker is started for nothing, or not before the ledger says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.graph import Graph, StepNode
from mlflow_pipes.scheduling.keys import action_key

if TYPE_CHECKING:
    from mlflow_pipes.engine import Inputs

# Enough for a hint, where a graph may have 100,000 steps: so many are looked at, and so many keys or codes asked for.
_MOST_NODES = 10_000
_MOST_ASKED = 64


def first_by_code(graph: Graph, ledger_file: Path | None) -> list[StepNode]:
    """Return the first steps that must be done whatever their inputs: their code is new, or they are never reused."""
    nodes = _looked_at(graph)
    codes = {node.step.code.digest for node in nodes}
    known = _known(ledger_file, "SELECT digest, 0 FROM code_fingerprints WHERE digest IN", codes)
    to_do = {node.id for node in nodes if node.step.reuse == "never" or node.step.code.digest not in known}
    return list(islice(_first_of(nodes, to_do), _MOST_ASKED)) if to_do else []


def first_by_inputs(graph: Graph, inputs: Inputs, ledger_file: Path | None, now: float) -> list[StepNode]:
    """Return the steps without parents whose output no earlier run made, or made too long ago."""
    keys: dict[str, str] = {}
    # A node that stands for many calls has no key of its own.
    roots = (node for node in _looked_at(graph) if node.maps is None and not node.parents)
    for node in islice(roots, _MOST_ASKED):
        try:
            arguments = inputs.arguments(node)
        except PipesError:
            continue  # the run will tell
        keys[node.id] = action_key(node.step.code.digest, {name: one.identity for name, one in arguments.items()})
    made_at = _known(ledger_file, "SELECT key, made_at FROM cache_entries WHERE reuse AND key IN", set(keys.values()))
    return [graph.nodes[id_] for id_, key in keys.items() if _is_missing(graph.nodes[id_], made_at.get(key), now)]


def _looked_at(graph: Graph) -> list[StepNode]:
    return [node for node in islice(graph.nodes.values(), _MOST_NODES) if node.hook is None]


def _is_missing(node: StepNode, made_at: float | None, now: float) -> bool:
    max_age_s = node.step.max_age_s
    return made_at is None or (max_age_s is not None and now - made_at > max_age_s)


def _first_of(nodes: Iterable[StepNode], to_do: set[str]) -> Iterable[StepNode]:
    """Yield the steps among *to_do* that wait for none of them; *nodes* are in topological order."""
    behind: set[str] = set()
    for node in nodes:
        if any(parent in to_do or parent in behind for parent in node.parents):
            behind.add(node.id)
        elif node.id in to_do:
            yield node


def _known(ledger_file: Path | None, question: str, wanted: set[str]) -> Mapping[str, float]:
    """Return what the ledger has of *wanted*; all of it where that cannot be told, so that nothing is done for it."""
    if ledger_file is None:  # it is on a server
        return dict.fromkeys(wanted, float("inf"))
    if not ledger_file.exists() or not ledger_file.stat().st_size:
        return {}
    asked = list(islice(wanted, _MOST_ASKED))
    not_asked = wanted.difference(asked)
    try:
        with closing(sqlite3.connect(f"{ledger_file.as_uri()}?mode=ro", uri=True, timeout=0.0)) as connection:
            rows = connection.execute(f"{question} ({','.join('?' * len(asked))})", asked).fetchall()
    except sqlite3.Error:
        return dict.fromkeys(wanted, float("inf"))
    return {**dict.fromkeys(not_asked, float("inf")), **dict(rows)}
