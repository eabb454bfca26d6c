"""How large targets are taken to be in a forecast: as told, else as configured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.scheduling.routing import Routing
from mlflow_pipes.wording import bytes_in
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, known_capacity

Size: TypeAlias = int | Capacity | Mapping[str, Any]
"""Workers of a target, or all of it: ``Capacity``, or a mapping with ``workers``, ``cpus``, ``memory`` and ``gpus``."""

_KEYS = ("workers", "cpus", "memory", "gpus")


def capacity_of(name: str, size: Size) -> Capacity:
    """Return what a target of that size holds.

    Without ``workers`` there is one a cpu, without ``cpus`` one a worker, without ``memory`` there is no limit,
    without ``gpus`` there are none.

    Raises:
        ConfigurationError: the size cannot be understood, or is nothing.
    """
    if isinstance(size, Capacity):
        return size
    if isinstance(size, int) and not isinstance(size, bool):
        size = {"workers": size}
    if not isinstance(size, Mapping):
        raise _wrong(name, "must be a number of workers, or say workers, cpus and memory", size)
    for key in size:
        if key not in _KEYS:
            raise ConfigurationError(
                f"size of target {name!r}: unknown {key!r}{suggest(key, _KEYS)} (known: {', '.join(_KEYS)})"
            )
    cpus = _above_zero(name, "cpus", size["cpus"]) if "cpus" in size else None
    workers = _above_zero(name, "workers", size["workers"]) if "workers" in size else max(1, int(cpus or 0))
    if cpus is None and "workers" not in size:
        raise _wrong(name, "must say workers or cpus", dict(size))
    if workers != int(workers):
        raise _wrong(name, "workers must be a whole number", workers)
    memory_bytes = _memory(name, size.get("memory", 0))
    return Capacity(cpus or float(workers), memory_bytes, int(workers), _whole(name, "gpus", size.get("gpus", 0)))


def configured_capacity(target: TargetConfiguration) -> Capacity:
    """Return what a configured target holds on this machine, without starting it.

    Raises:
        ConfigurationError: only a running cluster would know.
    """
    known = known_capacity(target)
    if known is not None:
        return known
    raise ConfigurationError(
        f"how large target {target.name!r} (of type {target.type!r}) is, is not known before it runs: "
        f"say it, such as --target {target.name}:8"
    )


def default_target(graph: Graph, sized: Mapping[str, Any], routing: Routing) -> str:
    """Return where steps go that name no target: as in a run, or to the one sized target that no step names.

    Raises:
        ConfigurationError: several targets are sized that nothing would run on.
    """
    configured = routing.usual
    named = {routing.target_of(node) for node in graph.nodes.values()} - {configured}
    free = [name for name in sized if name not in named and name != configured]
    if not free:
        return configured
    if len(free) > 1 or configured in sized:
        listed = ", ".join(sorted({*named, configured}))
        raise ConfigurationError(f"no step runs on target {free[0]!r}{suggest(free[0], [*named, configured])} "
                                 f"(steps run on: {listed})")  # fmt: skip
    return free[0]


def capacities_for(
    graph: Graph, sized: Mapping[str, Size], configured: Mapping[str, TargetConfiguration], routing: Routing
) -> tuple[dict[str, Capacity], dict[str, str]]:
    """Return what each target of the graph's nodes holds, and each node's target.

    Raises:
        ConfigurationError: a target is neither sized nor configured.
    """
    target_of = {node.id: routing.target_of(node) for node in graph.nodes.values()}
    capacities = {}
    for name in sorted({*target_of.values(), routing.usual}):
        if name in sized:
            capacities[name] = capacity_of(name, sized[name])
        elif name in configured:
            capacities[name] = configured_capacity(configured[name])
        else:
            raise ConfigurationError(
                f"target {name!r} is not configured{suggest(name, configured)}: say how large it is, "
                f"such as --target {name}:8"
            )
    return capacities, target_of


def _above_zero(name: str, key: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
        raise _wrong(name, f"{key} must be a number above 0", number)
    return float(number)


def _whole(name: str, key: str, number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf or number % 1:
        raise _wrong(name, f"{key} must be a whole number from 0 upwards", number)
    return int(number)


def _memory(name: str, size: Any) -> int:
    found = bytes_in(size) if isinstance(size, str) else size
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise _wrong(name, "memory must be a size such as '64GiB'", size)
    return found


def _wrong(name: str, what: str, found: Any) -> ConfigurationError:
    return ConfigurationError(f"size of target {name!r}: {what}, not {found!r}")
