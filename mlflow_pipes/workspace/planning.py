"""``plan``: what a run would do and why, without running or writing anything."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mlflow_pipes.authoring import graph_of
from mlflow_pipes.engine import Inputs
from mlflow_pipes.engine.growths import is_growth, mapped, returned
from mlflow_pipes.errors import ConfigurationError, PipesError
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.environment import ResolvedEnvironment
from mlflow_pipes.model.graph import Graph, Growth, StepNode
from mlflow_pipes.model.run import Hit, LookUp
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.dependencies import Dependencies
from mlflow_pipes.scheduling.keys import action_key
from mlflow_pipes.scheduling.routing import Choice
from mlflow_pipes.scheduling.tokens import check_tokens
from mlflow_pipes.stores.dry import DryDatastore
from mlflow_pipes.workspace.explain import Change, Ingredients, changes_text, compare
from mlflow_pipes.workspace.placing import check_places
from mlflow_pipes.workspace.situation import NamedConfiguration, Situation, called, loaded, situation_of
from mlflow_pipes.workspace.spark_steps import check_spark
from mlflow_pipes.workspace.step_environments import StepEnvironments, check_targets
from mlflow_pipes.workspace.workspace import Workspace

Action: TypeAlias = Literal["reuse", "run", "maybe-run", "always-run"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What a run would do with one node.

    Attributes:
        action: ``reuse`` its known output; ``run`` it; ``maybe-run`` it, which depends on what comes out of steps
            that run before it (if their outputs come out the same, it is reused); ``always-run`` (``reuse="never"``).
            A step that stands for calls of others (a map, or one known to return calls) does what these do.
        reason: one line: why.
        changes: what differs from the last time that it ended well, where that is why.
        estimate_s: its last known duration in seconds, None when not known.
        target: the compute target that it goes to when it runs.
        target_named_by: what named that target.
    """

    node: str
    name: str
    action: Action
    reason: str
    changes: tuple[Change, ...] = ()
    estimate_s: float | None = None
    target: str = ""
    target_named_by: str = ""


@dataclass(frozen=True, slots=True)
class PlannedBuild:
    """An environment that would be built.

    Attributes:
        packages: how many packages are in it.
        nodes: the steps that run, or may run, in it.
    """

    name: str
    kind: str
    packages: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes:
        steps: in order of declaration; after a step come the calls that it stands for, as far as they are known.
        estimate_s: sum of the known durations of steps that run or may run, in seconds of one worker's work.
        builds: environments that are not there yet, and would be built first.
    """

    pipeline: str
    steps: tuple[PlannedStep, ...]
    estimate_s: float = field(default=0.0)
    builds: tuple[PlannedBuild, ...] = ()

    def step(self, node: str) -> PlannedStep:
        """Return one node's plan; ``KeyError`` when there is no such node."""
        for planned in self.steps:
            if planned.node == node:
                return planned
        raise KeyError(node)


def plan(
    call: Any,
    *,
    workspace: Workspace | str | Path | None = None,
    target: str | None = None,
    configuration: NamedConfiguration | None = None,
) -> Plan:
    """Return what running *call* would do now, and why. Runs nothing and stores nothing.

    Args:
        call: what calling a pipeline or a step returned.
        workspace: as for ``run``.
        target: as for ``run``.
        configuration: as for ``run``.

    Raises:
        DeclarationError: the graph is wrong.
        ConfigurationError: a step goes to a target that is not there, or asks for more than there is.

    Cost: O(nodes + edges), besides hashing input files that are not remembered.
    """
    home = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    chosen = loaded(configuration, home.configuration)
    graph = graph_of(called(call, chosen))
    situation = situation_of(home.configuration, chosen, target=target)
    return plan_graph(graph, home, situation)


def plan_graph(graph: Graph, home: Workspace, situation: Situation | None = None) -> Plan:
    """Return what running a graph would do now, and why; without a situation it is not asked where."""
    return _Planner(graph, home, situation).plan()


class _Planner:
    """Walks a graph, all that is ready at once, asking the step cache once each time.

    Calls that a step is known to return, and those of a map whose lists are known, are taken in as a run does it.
    """

    def __init__(self, graph: Graph, home: Workspace, situation: Situation | None) -> None:
        self._environments = StepEnvironments(home, situation)
        self._graph = graph = self._environments.of_graph(graph)
        self._situation = situation
        self._choices: dict[str, Choice] = {}
        self._home = home
        self._inputs = Inputs(DryDatastore(home.datastore), home.file_memo)
        self._nodes: dict[str, StepNode] = {}
        self._planned: dict[str, PlannedStep] = {}
        self._estimates = home.ledger.estimates(graph.name)
        self._before = home.runs.last_successes(graph.name)
        self._waits = Dependencies()
        self._ready: list[StepNode] = []
        self._decided: deque[str] = deque()
        self._calls: dict[str, list[StepNode]] = {}  # of each step that stands for others
        self._open: dict[str, int] = {}
        self._caller: dict[str, StepNode] = {}
        self._depths: dict[str, int] = {}

    def plan(self) -> Plan:
        self._place(self._graph.nodes)
        self._inputs.prepare(self._graph)
        self._take_in(self._graph.nodes)
        while self._ready:
            level, self._ready = self._ready, []
            self._plan_level(level)
            while self._decided:
                self._go_on_after(self._decided.popleft())
        steps = tuple(self._in_order())
        busy = sum(step.estimate_s or 0.0 for step in steps if step.action != "reuse")
        running = {step.node for step in steps if step.action != "reuse"}
        builds = tuple(
            PlannedBuild(one.name, one.kind, len(one.packages), sorted_nodes)
            for one in self._environments.to_build()
            if (sorted_nodes := self._nodes_in(one, running))
        )
        return Plan(self._graph.name, steps, busy, builds)

    def _nodes_in(self, environment: ResolvedEnvironment, among: Container[str]) -> tuple[str, ...]:
        return tuple(id_ for id_, node in self._nodes.items() if id_ in among and node.step.environment is environment)

    def _in_order(self) -> Iterator[PlannedStep]:
        """Yield the steps in order of declaration, each followed by the calls that it stands for."""
        waiting = list(self._graph.nodes)[::-1]
        while waiting:
            node = waiting.pop()
            yield self._planned[node]
            waiting += [call.id for call in reversed(self._calls.get(node, ()))]

    def _place(self, nodes: Mapping[str, StepNode]) -> None:
        if self._situation is not None:
            configuration = self._situation.configuration
            for node in nodes.values():
                check_tokens(node.id, node.options, configuration.tokens)
            self._choices.update(check_places(nodes.values(), self._situation.routing, configuration.targets))
            check_spark(nodes.values(), self._choices, configuration.targets)
            if self._environments.used:
                check_targets(nodes.values(), self._choices, configuration.targets)

    def _take_in(self, nodes: Mapping[str, StepNode]) -> None:
        for node in nodes.values():
            if self._waits.add(replace(node, after=(), after_any=())):
                self._ready.append(node)
            self._nodes[node.id] = node

    def _go_on_after(self, node: str) -> None:
        for child in self._waits.children(node):
            if self._waits.arrived(node, child):
                self._ready.append(self._nodes[child])
        caller = self._caller.get(node)
        if caller is not None:
            self._open[caller.id] -= 1
            if not self._open[caller.id]:
                self._conclude(caller)

    def _plan_level(self, level: list[StepNode]) -> None:
        asked: list[tuple[StepNode, dict[str, str], LookUp]] = []
        for node in level:
            unknown = sorted(node.data_parents - self._inputs.outputs.keys())
            if node.hook is not None:
                self._plan_hook(node)
            elif node.maps is not None:
                self._plan_map(node, unknown)
            elif node.step.reuse == "never":
                self._add(node, "always-run", "it is declared with reuse='never'")
            elif unknown:
                self._depends(node, unknown)
            else:
                self._ask(node, asked)
        answers = self._home.ledger.exchange([], [lookup for _, _, lookup in asked], self._home.clock.now())
        for (node, inputs, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Hit) and self._inputs.is_whole(answer.output):
                self._reuse(node, answer.output)
            elif isinstance(answer, Hit):
                self._add(node, "run", "its stored output is no longer complete")
            else:
                self._will_run(node, inputs)

    def _plan_hook(self, node: StepNode) -> None:
        if node.hook == "always":
            self._add(node, "always-run", "it is an exit hook")
        else:
            how = "well" if node.hook == "on_success" else "badly"
            self._add(node, "maybe-run", f"it is an exit hook, for runs that end {how}")

    # --- steps that stand for calls of steps ---------------------------------------------------------------------

    def _reuse(self, node: StepNode, output: Artifact) -> None:
        if is_growth(output):
            self._stand_for(
                node,
                lambda: self._environments.of_growth(returned(node, output, self._nodes, self._inputs.datastore), node),
            )
            return
        self._inputs.outputs[node.id] = output
        self._add(node, "reuse", "nothing changed")

    def _plan_map(self, node: StepNode, unknown: list[str]) -> None:
        if unknown:
            self._add(node, "maybe-run", f"which calls it has depends on the output of {_listed(unknown, 'and')}")
            return
        self._stand_for(node, lambda: mapped(node, self._inputs.arguments(node), self._nodes, self._inputs.datastore))

    def _stand_for(self, node: StepNode, calls: Callable[[], Growth]) -> None:
        try:
            growth = calls()
            self._place(growth.nodes)
        except ConfigurationError as error:
            self._add(node, "run", f"it will fail: {error}")
            return
        except PipesError as error:
            self._add(node, "run", f"it will fail: {error}" if node.maps else f"its calls cannot be read: {error}")
            return
        depth = self._depths.get(node.id, 0) + 1
        if depth > node.options.max_depth:
            self._add(node, "run", f"it will fail: its calls stand deeper in each other than {node.options.max_depth}")
            return
        self._inputs.grown[node.id] = growth.output
        self._calls[node.id] = list(growth.nodes.values())
        self._open[node.id] = len(growth.nodes)
        self._caller.update(dict.fromkeys(growth.nodes, node))
        self._depths.update(dict.fromkeys(growth.nodes, depth))
        self._take_in(growth.nodes)
        if not growth.nodes:
            self._conclude(node)

    def _conclude(self, node: StepNode) -> None:
        """Plan a step whose calls are planned: its output is known when theirs are."""
        actions = Counter(self._planned[call.id].action for call in self._calls[node.id])
        runs, perhaps = actions["run"] + actions["always-run"], actions["maybe-run"]
        if not runs and not perhaps:
            try:
                self._inputs.outputs[node.id] = self._inputs.artifact(self._inputs.grown[node.id])
            except PipesError as error:
                self._add(node, "run", f"it will fail: {error}")
                return
            self._add(node, "reuse", "nothing changed", stands_for_others=True)
            return
        of_all = f"of the {actions.total():,} call{'s' * (actions.total() != 1)} it stands for"
        told = [f"{runs:,} {of_all} run{'s' * (runs == 1)}"] if runs else []
        if perhaps:
            told.append(f"{perhaps:,} may run" if runs else f"{perhaps:,} {of_all} may run")
        self._add(node, "run" if runs else "maybe-run", ", ".join(told), stands_for_others=True)

    # --- single steps ---------------------------------------------------------------------------------------------

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
            self._add(node, "maybe-run", f"if {_listed(unknown, 'or')} comes out different")

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

    def _add(
        self,
        node: StepNode,
        action: Action,
        reason: str,
        changes: tuple[Change, ...] = (),
        *,
        stands_for_others: bool = False,
    ) -> None:
        estimate = None if stands_for_others else self._estimates.get(node.id)  # the calls have their own
        target, named_by = self._choices.get(node.id, ("", ""))
        self._planned[node.id] = PlannedStep(
            node.id, node.step.name, action, reason, changes, estimate, target, named_by
        )
        self._decided.append(node.id)


def _listed(names: list[str], word: str) -> str:
    """Return the first few names as people list them.

    >>> _listed(["a", "b"], "or"), _listed(["a", "b", "c", "d", "e"], "or")
    ('a or b', 'a, b, c or 2 others')
    """
    shown = names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} other{'s' * (len(names) > 4)}"]
    return f" {word} ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
