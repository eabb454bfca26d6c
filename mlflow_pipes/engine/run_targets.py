"""The compute targets of one run: those that it began with, and those that only returned calls ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlflow_pipes.errors import ConfigurationError, TargetError, suggest
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.ports import ComputeTarget, GivesSpark, InEnvironments, Polled


class RunTargets:
    """Started targets by name.

    Args:
        targets: those of the declared graph.
        open_target: makes and starts a further one; None when there are no others.

    Attributes:
        polled: those among them that the loop waits for.
        on_opened: told of a further target, before it is used.
    """

    on_opened: Callable[[str, Capacity], None]

    def __init__(
        self, targets: Mapping[str, ComputeTarget], open_target: Callable[[str], ComputeTarget] | None
    ) -> None:
        self._targets = dict(targets)
        self._open_target = open_target
        self.polled = [target for target in targets.values() if isinstance(target, Polled)]

    def __getitem__(self, name: str) -> ComputeTarget:
        """Return a target, opened when it is not there yet.

        Raises:
            ConfigurationError: there is none of that name.
            TargetError: it cannot be started.
        """
        found = self._targets.get(name)
        return self._opened(name) if found is None else found

    def capacities(self) -> dict[str, Capacity]:
        """Return what each target can hold at once."""
        return {name: target.capacity() for name, target in self._targets.items()}

    def _opened(self, name: str) -> ComputeTarget:
        if self._open_target is None:
            known = ", ".join(sorted(self._targets))
            raise ConfigurationError(
                f"a step names the target {name!r}, which is not configured{suggest(name, self._targets)} "
                f"(there are: {known})"
            )
        target = self._targets[name] = self._open_target(name)
        if isinstance(target, Polled):
            self.polled.append(target)
        self.on_opened(name, target.capacity())
        return target


def check_gives_spark(target: ComputeTarget, node: StepNode) -> None:
    """Refuse a target without Spark for a step that uses it.

    Raises:
        TargetError: naming step and target.
    """
    if node.step.wants_spark and not isinstance(target, GivesSpark):
        raise TargetError(
            f"step {node.id!r} takes a Spark session or Spark's data frames, but target {target.name!r} has no Spark; "
            "name a target of type spark"
        )


def check_runs_environments(target: ComputeTarget, node: StepNode) -> None:
    """Refuse a target that cannot run a step with the environment that this names.

    Raises:
        TargetError: naming step, environment and target.
    """
    environment = node.step.environment
    if environment is not None and not isinstance(target, InEnvironments):
        raise TargetError(
            f"step {node.id!r} runs in environment {environment.name!r}, but target {target.name!r} runs steps with "
            'the interpreter that it has itself; name another target, such as "local", or no environment'
        )
