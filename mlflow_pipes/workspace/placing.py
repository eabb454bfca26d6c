"""Whether the targets that steps go to are there, and large enough, told before anything is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.resources import asked, owned, too_much
from mlflow_pipes.scheduling.routing import Choice, Routing
from mlflow_pipes.workspace.checked_tables import listed
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, check_target, known_capacity, known_largest

_NOTHING_MUCH = asked(StepOptions())


def check_places(
    nodes: Iterable[StepNode], routing: Routing, configured: Mapping[str, TargetConfiguration]
) -> dict[str, Choice]:
    """Return where each node goes, and why.

    Targets that tell their size only when they run are checked by the run. Cost: O(nodes * rules).

    Raises:
        ConfigurationError: a target is not configured, or can never hold a step that goes there.
    """
    choices: dict[str, Choice] = {}
    known: dict[int, Choice] = {}  # by the identity of options, which many nodes share: only rules look at more
    checked = set()
    for node in nodes:
        choice = None if routing.rules else known.get(id(node.options))
        if choice is None:
            choice = known[id(node.options)] = routing.choice(node)
            request = (choice.target, *asked(node.options))
            if request not in checked:
                checked.add(request)
                _check(node, choice, configured)
        choices[node.id] = choice
    return choices


def _check(node: StepNode, choice: Choice, configured: Mapping[str, TargetConfiguration]) -> None:
    target = configured_target(choice.target, f"step {node.id!r}", configured, named_by=choice.named_by)
    check_target(target)
    if asked(node.options) != _NOTHING_MUCH:
        _check_room(node, choice, target, configured)


def configured_target(
    name: str, user: str, configured: Mapping[str, TargetConfiguration], named_by: str = ""
) -> TargetConfiguration:
    """Return a target of the configuration; *user* is who asks for it, for errors.

    Raises:
        ConfigurationError: it is not there.
    """
    if name not in configured:
        by = f" (named by {named_by})" if named_by else ""
        raise ConfigurationError(
            f"{user} runs on target {name!r}{by}, which is not configured{suggest(name, configured)} "
            f"(there are: {listed(configured)}); add [targets.{name}] to pipes.toml"
        )
    return configured[name]


def _check_room(
    node: StepNode, choice: Choice, target: TargetConfiguration, configured: Mapping[str, TargetConfiguration]
) -> None:
    largest = known_largest(target)
    where = "in all" if largest == known_capacity(target) else "in each worker"
    told = "" if largest is None else too_much(node.id, node.options, target.name, owned(largest), where)
    if not told:
        return
    large = [name for name, other in configured.items() if _holds(node, known_largest(other)) and name != "inline"]
    remedy = (
        f"name a larger target with {node.id}.options(target=...), such as {large[0]!r}"
        if large
        else f"name a larger target with {node.id}.options(target=...); of those configured none is known to have that"
    )
    raise ConfigurationError(f"{told}: ask for less, or {remedy} ({choice.named_by} named {target.name!r})")


def _holds(node: StepNode, capacity: Capacity | None) -> bool:
    return capacity is not None and not too_much(node.id, node.options, "", owned(capacity))
