"""``plan``: what a run would do and why, without running or writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mlflow_pipes.authoring import graph_of
from mlflow_pipes.engine import Inputs
from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.graph import Graph, StepNode
from mlflow_pipes.model.run import Hit, LookUp
from mlflow_pipes.scheduling.keys import action_key
from mlflow_pipes.stores.dry import DryDatastore
from mlflow_pipes.workspace.explain import Change, Ingredients, changes_text, compare
from mlflow_pipes.workspace.workspace import Workspace

Action: TypeAlias = Literal["reuse", "run", "maybe-run", "always-run"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What a run would do with one node.

    Attributes:
        action: ``reuse`` its known output; ``run`` it; ``maybe-run`` it, which depends on what comes out of steps
            that run before it (if their outputs come out the same, it is reused); ``always-run`` (``reuse="never"``).
        reason: one line: why.
        changes: what differs from the last time that it ended well, where that is why.
        estimate_s: its last known duration in seconds, None when not known.
    """

    node: str
    name: str
    action: Action
    reason: str
    changes: tuple[Change, ...] = ()
    estimate_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes:
        steps: in order of declaration.
        estimate_s: sum of the known durations of steps that run or may run, in seconds of one worker's work.
    """

    pipeline: str
    steps: tuple[PlannedStep, ...]
    estimate_s: float = field(default=0.0)

    def step(self, node: str) -> PlannedStep:
        """Return one node's plan; ``KeyError`` when there is no such node."""
        for planned in self.steps:
            if planned.node == node:
                return planned
        raise KeyError(node)


def plan(call: Any, *, workspace: Workspace | str | Path | None = None) -> Plan:
    """Return what running *call* would do now, and why. Runs nothing and stores nothing.

    Args:
        call: what calling a pipeline or a step returned.
        workspace: as for ``run``.

    Raises:
        DeclarationError: the graph is wrong.

    Cost: O(nodes + edges), besides hashing input files that are not remembered.
    """
    graph = graph_of(call)
    return plan_graph(graph, workspace if isinstance(workspace, Workspace) else Workspace.open(workspace))


def plan_graph(graph: Graph, home: Workspace) -> Plan:
    """Return what running a graph would do now, and why."""
    return _Planner(graph, home).plan()


class _Planner:
    """Walks a graph level by level, asking the step cache once a level."""

    def __init__(self, graph: Graph, home: Workspace) -> None:
        self._graph = graph
        self._home = home
        self._inputs = Inputs(DryDatastore(home.datastore), home.file_memo)
        self._planned: dict[str, PlannedStep] = {}
        self._estimates = home.ledger.estimates(graph.name)
        self._before = home.runs.last_successes(graph.name)

    def plan(self) -> Plan:
        self._inputs.prepare(self._graph)
        for level in _levels(self._graph):
            self._plan_level(level)
        steps = tuple(self._planned[node] for node in self._graph.nodes)
        busy = sum(step.estimate_s or 0.0 for step in steps if step.action != "reuse")
        return Plan(self._graph.name, steps, busy)

    def _plan_level(self, level: list[StepNode]) -> None:
        asked: list[tuple[StepNode, dict[str, str], LookUp]] = []
        for node in level:
            if node.step.reuse == "never":
                self._add(node, "always-run", "it is declared with reuse='never'")
            elif unknown := sorted(node.data_parents() - self._inputs.outputs.keys()):
                self._depends(node, unknown)
            else:
                self._ask(node, asked)
        answers = self._home.ledger.exchange([], [lookup for _, _, lookup in asked], self._home.clock.now())
        for (node, inputs, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Hit) and self._inputs.is_whole(answer.output):
                self._inputs.outputs[node.id] = answer.output
                self._add(node, "reuse", "nothing changed")
            elif isinstance(answer, Hit):
                self._add(node, "run", "its stored output is no longer complete")
            else:
                self._will_run(node, inputs)

    def _ask(self, node: StepNode, asked: list[tuple[StepNode, dict[str, str], LookUp]]) -> None:
        try:
            arguments = self._inputs.arguments(node)
        except PipesError as error:
            self._add(node, "run", f"its arguments cannot be formed: {error}")
            return
        inputs = {name: artifact.identity for name, artifact in arguments.items()}
        key = action_key(node.step.code.digest, inputs)
        asked.append((node, inputs, LookUp(key, "", claim=False, max_age_s=node.step.max_age_s)))

    def _depends(self, node: StepNode, unknown: list[str]) -> None:
        last = self._last(node)
        if last is None:
            self._add(node, "run", f"it has not ended well before; it waits for {_listed(unknown, 'and')}")
        elif last.code_digest != node.step.code.digest:
            changes = tuple(compare(last, Ingredients(node.step.code.digest, node.step.code.leaves, last.inputs)))
            self._add(node, "run", changes_text(changes), changes)
        else:
            self._add(node, "maybe-run", f"only if the output of {_listed(unknown, 'or')} comes out different")

    def _will_run(self, node: StepNode, inputs: Mapping[str, str]) -> None:
        last = self._last(node)
        if last is None:
            self._add(node, "run", "it has not ended well before")
            return
        now = Ingredients(node.step.code.digest, node.step.code.leaves, inputs)
        changes = tuple(compare(last, now))
        self._add(node, "run", changes_text(changes) or "its entry is no longer in the step cache", changes)

    def _last(self, node: StepNode) -> Ingredients | None:
        """Return what the node's key was made of when it last ended well."""
        found = self._before.get(node.id)
        return None if found is None else self._home.runs.last_ingredients(found)

    def _add(self, node: StepNode, action: Action, reason: str, changes: tuple[Change, ...] = ()) -> None:
        estimate = self._estimates.get(node.id)
        self._planned[node.id] = PlannedStep(node.id, node.step.name, action, reason, changes, estimate)


def _listed(names: list[str], word: str) -> str:
    """Return the first few names as people list them.

    >>> _listed(["a", "b"], "or"), _listed(["a", "b", "c", "d", "e"], "or")
    ('a or b', 'a, b, c or 2 others')
    """
    shown = names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} other{'s' * (len(names) > 4)}"]
    return f" {word} ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _levels(graph: Graph) -> list[list[StepNode]]:
    """Return the nodes by the length of the longest data path above them."""
    level: dict[str, int] = {}
    levels: list[list[StepNode]] = []
    for node in graph.nodes.values():
        depth = level[node.id] = 1 + max((level[parent] for parent in node.data_parents()), default=-1)
        if depth == len(levels):
            levels.append([])
        levels[depth].append(node)
    return levels
