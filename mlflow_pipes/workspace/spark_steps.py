"""Whether the targets of steps that use Spark have it, told before anything is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.scheduling.routing import Choice
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, maker_of


def check_spark(
    nodes: Iterable[StepNode], choices: Mapping[str, Choice], configured: Mapping[str, TargetConfiguration]
) -> None:
    """Refuse targets without Spark for steps that take a Spark session, or data frames of Spark's.

    Raises:
        ConfigurationError: naming step and target, and a target that would do.
    """
    for node in nodes:
        if not node.step.wants_spark:
            continue
        choice = choices[node.id]
        if getattr(maker_of(configured[choice.target]), "gives_spark", False):
            continue
        others = [name for name, one in configured.items() if one.type == "spark"]
        remedy = (
            f"name one that has, with {node.id}.options(target=...), such as {others[0]!r}"
            if others
            else "add one of type spark to pipes.toml, and name it"
        )
        raise ConfigurationError(
            f"step {node.id!r} takes a Spark session or Spark's data frames, but target {choice.target!r} has no "
            f"Spark: {remedy} ({choice.named_by} named {choice.target!r})"
        )
