"""The nodes of a run, those that it began with and those that grew: their run ids, targets and expected durations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlflow_pipes.engine.run_targets import RunTargets
from mlflow_pipes.model.graph import GroupNode, StepNode
from mlflow_pipes.scheduling.policy import critical_path_s, run_default_estimate_s
from mlflow_pipes.scheduling.routing import Routing


class Roster:
    """Who takes part in a run.

    Args:
        targets: compute targets by name.
        routing: says which target each step goes to.
        estimates: last known durations in seconds by node id.
        new_ids: ids of 32 hex digits for the runs of steps, without end.

    Attributes:
        nodes: by id.
        target_of: name of each node's target.
        named_by: who named it, in words, of nodes of which somebody did.
        step_run_ids: id of each node's and each group's run.
    """

    def __init__(
        self,
        targets: RunTargets,
        routing: Routing,
        estimates: Mapping[str, float],
        new_ids: Iterator[str],
    ) -> None:
        self.nodes: dict[str, StepNode] = {}
        self.target_of: dict[str, str] = {}
        self.named_by: dict[str, str] = {}
        self.step_run_ids: dict[str, str] = {}
        self._targets = targets
        self._routing = routing
        self._estimates = estimates
        self._default_s = run_default_estimate_s(estimates)
        self._new_ids = new_ids

    def add(self, groups: Mapping[str, GroupNode], nodes: Mapping[str, StepNode]) -> None:
        """Take in a graph, or what grew.

        Raises:
            ConfigurationError: a step names a target that is not there; then nothing was taken in.
        """
        choices = {node.id: self._routing.choice(node) for node in nodes.values()}
        for name in dict.fromkeys([choice.target for choice in choices.values()]):
            _ = self._targets[name]  # opened, or refused
        self.target_of.update({node: choice.target for node, choice in choices.items()})
        fallback = self._routing.fallback
        self.named_by.update({node: choice.named_by for node, choice in choices.items() if choice != fallback})
        self.nodes.update(nodes)
        for name in [*groups, *nodes]:
            self.step_run_ids[name] = next(self._new_ids)

    def ranks(self, nodes: Mapping[str, StepNode]) -> Mapping[str, float]:
        """Return the length in seconds of each node's critical path among *nodes*."""
        children: dict[str, list[str]] = {}
        for node in nodes.values():
            for parent in node.parents:
                children.setdefault(parent, []).append(node.id)
        return critical_path_s(list(nodes), children, self._estimates, self._default_s)
