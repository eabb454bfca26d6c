"""The environments of a graph's steps: resolved, checked, and put into their keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.environment import DEFAULT, Environment, ResolvedEnvironment
from mlflow_pipes.model.graph import Graph, Growth, StepNode
from mlflow_pipes.model.step import StepDefinition
from mlflow_pipes.scheduling.keys import code_in
from mlflow_pipes.scheduling.routing import Choice
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, maker_of

if TYPE_CHECKING:
    from mlflow_pipes.environments import Environments
    from mlflow_pipes.workspace.situation import Situation
    from mlflow_pipes.workspace.workspace import Workspace


class StepEnvironments:
    """Puts steps into the environments that they name; where none does, it does nothing.

    Args:
        home: where environments are.
        situation: whose environments they are, and which is that of steps that name none; None for those of *home*.

    Attributes:
        used: the environments of all steps until now, by name.
    """

    def __init__(self, home: Workspace, situation: Situation | None = None) -> None:
        self._home = home
        self._situation = situation
        self._usual = None if situation is None else situation.environment
        self._placed: dict[tuple[int, str], StepDefinition] = {}
        self._alive: list[StepDefinition] = []
        self.used: dict[str, ResolvedEnvironment] = {}

    def of_graph(self, graph: Graph) -> Graph:
        """Return a declared graph with its steps in their environments.

        Raises:
            DeclarationError, WorldError: an environment cannot be had, or lacks what a step needs.
        """
        if self._usual is None and not any_named(graph.nodes.values()):
            return graph
        return replace(graph, nodes={id_: self._node(node, None, self._usual) for id_, node in graph.nodes.items()})

    def of_growth(self, growth: Growth, parent: StepNode) -> Growth:
        """Return the calls that a step returned in theirs; those that name none run in the step's own.

        Raises:
            DeclarationError, WorldError: as of :meth:`of_graph`.
        """
        if parent.step.environment is None and not any_named(growth.nodes.values()):
            return growth
        inherited = parent.options.environment if parent.step.environment is not None else None
        return replace(growth, nodes={id_: self._node(node, inherited) for id_, node in growth.nodes.items()})

    def to_build(self) -> list[ResolvedEnvironment]:
        """Return those of the environments used that are not built."""
        return [one for one in self.used.values() if not self._environments.is_built(one)]

    @cached_property
    def _environments(self) -> Environments:
        if self._situation is None:
            return self._home.environments
        declared = self._situation.configuration.environments
        own = self._home.environments
        return own if declared == own.declared else replace(own, declared=declared)

    def _node(self, node: StepNode, inherited: str | Environment | None, usual: str | None = None) -> StepNode:
        named = node.options.environment or inherited or usual
        if named is None or (inherited is None and self._is_default(named, node)):
            return node
        options = replace(node.options, environment=named)
        return replace(node, step=self._step(node, named), options=options)

    def _is_default(self, named: str | Environment, node: StepNode) -> bool:
        return named == DEFAULT and self._environments.named(named, f"step {node.id!r}") is None

    def _step(self, node: StepNode, named: str | Environment) -> StepDefinition:
        key = (id(node.step), repr(named))
        known = self._placed.get(key)
        if known is None:
            from mlflow_pipes.environments.fitting import check_fits

            resolved = self._environments.resolve(named, f"step {node.id!r}")
            self.used[resolved.name] = resolved
            check_fits(node.step, resolved, node.id)
            known = replace(node.step, code=code_in(resolved, node.step.code), environment=resolved)
            self._placed[key] = known
            self._alive.append(node.step)  # so that its id stays its own
        return known


def any_named(nodes: Iterable[StepNode]) -> bool:
    """Tell whether any step names an environment."""
    return any(node.options.environment is not None for node in nodes)


def check_targets(
    nodes: Iterable[StepNode], choices: Mapping[str, Choice], configured: Mapping[str, TargetConfiguration]
) -> None:
    """Refuse targets that cannot run their steps in the environments that these have.

    Raises:
        ConfigurationError: naming step, environment and target.
    """
    for node in nodes:
        if node.step.environment is None:
            continue
        target = choices[node.id].target
        if not getattr(maker_of(configured[target]), "runs_environments", False):
            raise ConfigurationError(
                f"step {node.id!r} runs in environment {node.step.environment.name!r}, but target {target!r} runs "
                'steps with the interpreter that it has itself; name another target, such as "local", or no environment'
            )
