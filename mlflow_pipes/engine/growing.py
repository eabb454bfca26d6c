"""How a run grows: the calls that a step returned are taken in, and their outputs make the step's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from mlflow_pipes.engine.growths import mapped, returned
from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.recorder import Recorder
from mlflow_pipes.engine.roster import Roster
from mlflow_pipes.errors import GraphError, PipesError, WorldError
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.graph import Growth, StepNode
from mlflow_pipes.scheduling.messages import Concluded, Event, Failed, Grew, Unresolvable

InEnvironmentsOf: TypeAlias = Callable[[Growth, StepNode], Growth]


class Growing:
    """Takes in what grew in one run. Its answers are events for the state machine.

    Args:
        roster, inputs, recorder: of the run.
        in_environments: puts the calls that a node returned into their environments.
    """

    def __init__(self, roster: Roster, inputs: Inputs, recorder: Recorder, in_environments: InEnvironmentsOf) -> None:
        self._roster = roster
        self._inputs = inputs
        self._recorder = recorder
        self._in_environments = in_environments
        self._depths: dict[str, int] = {}

    def returned(self, node: StepNode, output: Artifact, number: int | None, now: float) -> Event:
        """Have the calls in a step's output, of attempt *number* or (None) of the cache, stand in its place."""

        def calls() -> Growth:
            growth = returned(node, output, self._roster.step_run_ids, self._inputs.datastore)
            return self._in_environments(growth, node)

        return self._taken_in(node, number, now, calls)

    def mapped(self, node: StepNode, arguments: Mapping[str, Artifact], now: float) -> Event:
        """Have the calls that a map over its arguments stands for stand in its place."""
        return self._taken_in(
            node, None, now, lambda: mapped(node, arguments, self._roster.step_run_ids, self._inputs.datastore)
        )

    def _taken_in(self, node: StepNode, number: int | None, now: float, calls: Callable[[], Growth]) -> Event:
        try:
            depth = self._depth_below(node)
            growth = calls()
            self._roster.add(growth.groups, growth.nodes)
        except PipesError as error:
            kind = FailureKind.WORLD if isinstance(error, WorldError) else FailureKind.EXCEPTION
            failure = Failure(kind, str(error), (type(error).__name__,))
            return Unresolvable(node.id, failure) if number is None else Failed(node.id, number, failure)
        self._depths.update(dict.fromkeys(growth.nodes, depth))
        self._inputs.grown[node.id] = growth.output
        if node.maps is not None:
            self._inputs.maps[node.id] = node
        self._recorder.declare(growth.groups, growth.nodes, now)
        target_of = {name: self._roster.target_of[name] for name in growth.nodes}
        ranks = self._roster.ranks(growth.nodes)
        return Grew(node.id, number, growth.nodes, growth.groups, target_of, ranks, reused=number is None)

    def _depth_below(self, node: StepNode) -> int:
        depth = self._depths.get(node.id, 0) + 1
        if depth > node.options.max_depth:
            raise GraphError(
                f"step {node.step.name!r} returned calls that stand {depth:,} deep in each other: does its recursion "
                f"ever end? If it does, allow for more with @step(max_depth={2 * depth})"
            )
        return depth

    def concluded(self, node: str) -> Event:
        """Put the output of a step together from those of the calls that it returned."""
        try:
            self._inputs.outputs[node] = self._inputs.artifact(self._inputs.grown[node])
        except PipesError as error:
            return Concluded(node, Failure(FailureKind.INNER, str(error)))
        return Concluded(node)
