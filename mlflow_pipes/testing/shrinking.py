"""Makes a scenario that breaks a law smaller, as long as it still breaks the same law."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import GroupNode
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.testing.scenarios import Faults, Scenario, Task
from mlflow_pipes.testing.simulator import broken_laws

T = TypeVar("T")
R = TypeVar("R", Scenario, Task, Faults, StepOptions, GroupNode)


def law_of(broken: Sequence[str]) -> str | None:
    """Return the name of the law that broke first; None when none did."""
    return broken[0].partition(":")[0] if broken else None


def shrunk(
    scenario: Scenario, broken: Callable[[Scenario], Sequence[str]] = broken_laws, *, tries_at_most: int = 5_000
) -> Scenario:
    """Return a smallest scenario that breaks the same law: whatever else is taken from it, the law holds.

    Args:
        scenario: breaks a law; one that does not is returned as it is.
        broken: gives the laws that a scenario breaks.
        tries_at_most: simulations to spend.
    """
    law = law_of(broken(scenario))
    if law is None:
        return scenario
    tries = 0
    smaller = True
    while smaller and tries < tries_at_most:
        smaller = False
        for candidate in _smaller(scenario):
            tries += 1
            if law_of(broken(candidate)) == law:
                scenario, smaller = candidate, True
                break
            if tries >= tries_at_most:
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with one thing less, large things first."""
    for name in ("starts", "crashes", "silences", "cancels"):
        for items in _without_one(getattr(scenario, name)):
            if items or name != "starts":
                yield _changed(scenario, name, items)
    for task in reversed(scenario.tasks):
        if len(scenario.tasks) > 1:
            yield _without_task(scenario, task.name)
    for group in reversed(scenario.groups):
        yield _without_group(scenario, group.id, group.group)
    for faults in _plainer(scenario.faults, Faults(), *[one.name for one in fields(Faults)]):
        yield replace(scenario, faults=faults)
    yield from _on_less(scenario)
    yield from _plainer(scenario, Scenario(), "timeout_s", "max_parallel", "fail_fast", "crash_seen")
    for i, task in enumerate(scenario.tasks):
        for simpler in _simpler(task):
            yield replace(scenario, tasks=(*scenario.tasks[:i], simpler, *scenario.tasks[i + 1 :]))
    for i, group in enumerate(scenario.groups):
        for looser in _plainer(group, GroupNode(group.id, group.name), "timeout_s", "max_parallel"):
            yield replace(scenario, groups=(*scenario.groups[:i], looser, *scenario.groups[i + 1 :]))


def _on_less(scenario: Scenario) -> Iterator[Scenario]:
    """Yield it with fewer or smaller targets."""
    if len(scenario.capacities) > 1:
        first = next(iter(scenario.capacities))
        tasks = tuple([replace(task, target=first) for task in scenario.tasks])
        yield replace(scenario, tasks=tasks, capacities={first: scenario.capacities[first]})
    for target, capacity in scenario.capacities.items():
        for less in (replace(capacity, memory_bytes=0), Capacity(1.0, capacity.memory_bytes, 1)):
            if less != capacity:
                yield replace(scenario, capacities={**scenario.capacities, target: less})


def _simpler(task: Task) -> Iterator[Task]:
    for parent in task.parents:
        parents = tuple([one for one in task.parents if one != parent])
        yield replace(task, parents=parents, tolerates=tuple([one for one in task.tolerates if one != parent]))
    for tolerates in _without_one(task.tolerates):
        yield replace(task, tolerates=tolerates)
    yield from _plainer(task, Task(task.name), "group", "key", "seconds")
    for options in _plainer(task.options, StepOptions(), *[one.name for one in fields(StepOptions)]):
        yield replace(task, options=options)


def _plainer(record: R, plain: R, *names: str) -> Iterator[R]:
    """Yield a record with one field as it is in a plain one."""
    for name in names:
        if getattr(record, name) != getattr(plain, name):
            yield _changed(record, name, getattr(plain, name))


def _changed(record: R, name: str, value: Any) -> R:
    changes: dict[str, Any] = {name: value}
    return replace(record, **changes)


def _without_one(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    for i in reversed(range(len(items))):
        yield items[:i] + items[i + 1 :]


def _without_task(scenario: Scenario, name: str) -> Scenario:
    tasks = [
        replace(
            task,
            parents=tuple([parent for parent in task.parents if parent != name]),
            tolerates=tuple([parent for parent in task.tolerates if parent != name]),
            key="" if task.key == name else task.key,
        )
        for task in scenario.tasks
        if task.name != name
    ]
    cancels = tuple([cancel for cancel in scenario.cancels if cancel.name != name])
    return replace(scenario, tasks=tuple(tasks), cancels=cancels)


def _without_group(scenario: Scenario, name: str, outer: str | None) -> Scenario:
    return replace(
        scenario,
        tasks=tuple([replace(task, group=outer) if task.group == name else task for task in scenario.tasks]),
        groups=tuple(
            [replace(one, group=outer) if one.group == name else one for one in scenario.groups if one.id != name]
        ),
        cancels=tuple([cancel for cancel in scenario.cancels if cancel.name != name]),
    )
