"""The types of compute targets: what makes a target of each, its keys in the configuration, and how large it is.

A type of our own stands in :data:`TARGET_TYPES`; nothing else knows types by name. What is read, checked and made by
this table is in :mod:`mlflow_pipes.workspace.target_configuration`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mlflow_pipes.machine import capacity as machine
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.ports import ComputeTarget
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.checked_tables import Check, above_zero, size, text, whole
from mlflow_pipes.workspace.checked_tables import table as table_of_anything
from mlflow_pipes.workspace.local_tiers import check_local_tier

if TYPE_CHECKING:
    from mlflow_pipes.targets.dask.plan import ClusterPlan

MakesTarget: TypeAlias = Callable[..., ComputeTarget]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a target's table.

    Attributes:
        argument: the keyword argument of what makes the target.
        check: see :data:`~mlflow_pipes.workspace.checked_tables.Check`.
        located: makes paths in its value absolute that are relative to the project's folder.
    """

    argument: str
    check: Check
    located: Callable[[Any, Path], Any] = lambda value, _: value


@dataclass(frozen=True, slots=True)
class TargetType:
    """A kind of compute target.

    Attributes:
        load: imports and returns what makes one with these options; called only when one is made.
        keys: of its table, besides ``type`` and ``shared``.
        shareable: its table may say ``shared``.
        per_machine: what runs share of it belongs to one machine: those of another have one of their own.
        capacity: what a target with these options holds, told without starting it; None when only a running one knows.
        largest: the most of it that a single step can be given; as *capacity*.
        check: raises ``ConfigurationError`` when options do not go together, or one is missing.
        is_asked: whether a target is on, where it can be turned on, is told at once: lists ask it.
        extra: what to install with mlflow_pipes to use it; empty for nothing.
    """

    load: Callable[[Mapping[str, Any]], MakesTarget]
    keys: Mapping[str, Key]
    shareable: bool = True
    per_machine: bool = False
    capacity: Callable[[Mapping[str, Any]], Capacity | None] = lambda _: None
    largest: Callable[[Mapping[str, Any]], Capacity | None] | None = None
    check: Callable[[Mapping[str, Any]], None] = lambda _: None
    is_asked: bool = False
    extra: str = ""

    def table_keys(self) -> tuple[str, ...]:
        """Return all keys that its table may have."""
        return ("type", *self.keys, *(("shared",) if self.shareable else ()))


def _local(_: Mapping[str, Any]) -> MakesTarget:
    from mlflow_pipes.targets.local import LocalTarget

    return LocalTarget


def _inline(_: Mapping[str, Any]) -> MakesTarget:
    from mlflow_pipes.targets.inline import InlineTarget

    return InlineTarget


def _dask(options: Mapping[str, Any]) -> MakesTarget:
    if find_spec("distributed") is None:  # imported when there is something to do
        raise ImportError("there is no distributed here")
    if options.get("address"):
        from mlflow_pipes.targets.dask import DaskTarget

        return DaskTarget
    from mlflow_pipes.targets.dask.managed import ManagedDaskTarget

    return ManagedDaskTarget


def _dask_plan(options: Mapping[str, Any]) -> ClusterPlan:
    from mlflow_pipes.targets.dask.plan import ClusterPlan

    known = {one.name for one in fields(ClusterPlan)}
    return ClusterPlan(**{name: value for name, value in options.items() if name in known})


def _check_dask(options: Mapping[str, Any]) -> None:
    _dask_plan(options)
    check_local_tier(options)


def _beside_project(path: str, project: Path) -> str:
    return str(project / Path(path).expanduser())


def _security_beside_project(security: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """Return what is said of TLS with the paths of its files made absolute; what is PEM itself stays."""
    return {
        key: _beside_project(value, project)
        if key.startswith("tls_") and isinstance(value, str) and "\n" not in value and key.endswith(_TLS_FILES)
        else value
        for key, value in security.items()
    }


_TLS_FILES = ("_file", "_cert", "_key")


def _spark(_: Mapping[str, Any]) -> MakesTarget:
    if find_spec("pyspark") is None:  # imported when there is something to do
        raise ImportError("there is no pyspark here")
    from mlflow_pipes.targets.spark import SparkTarget

    return SparkTarget


def _check_spark(options: Mapping[str, Any]) -> None:
    from mlflow_pipes.targets.spark.plan import SparkPlan

    known = {one.name for one in fields(SparkPlan)}
    SparkPlan(**{name: value for name, value in options.items() if name in known})


def _ssh(_: Mapping[str, Any]) -> MakesTarget:
    from mlflow_pipes.targets.ssh import SshTarget

    return SshTarget


def _check_ssh(options: Mapping[str, Any]) -> None:
    from mlflow_pipes.targets.ssh.machine import Machine

    Machine(str(options.get("host", "")), user=str(options.get("user", "")))


def _ssh_capacity(options: Mapping[str, Any]) -> Capacity | None:
    workers = options.get("workers")
    if workers is None:
        return None  # what the machine has
    gpus = options.get("gpus")
    return Capacity(
        cpus=float(options.get("cpus") or workers),
        memory_bytes=options.get("memory_bytes", 0),
        slots=workers,
        gpus=math.inf if gpus is None else gpus,
    )


def _local_capacity(options: Mapping[str, Any]) -> Capacity:
    workers = options.get("workers") or machine.processors()
    gpus = options.get("gpus")
    return Capacity(
        cpus=float(options.get("cpus") or workers),
        memory_bytes=options.get("memory_bytes") or machine.memory_bytes(),
        slots=workers,
        gpus=len(machine.gpus()) if gpus is None else gpus,
    )


TARGET_TYPES: Mapping[str, TargetType] = {
    "inline": TargetType(
        load=_inline,
        keys={},
        shareable=False,
        capacity=lambda _: Capacity(cpus=math.inf, slots=1, gpus=math.inf),
    ),
    "local": TargetType(
        load=_local,
        keys={
            "workers": Key("workers", whole(1)),
            "cpus": Key("cpus", above_zero),
            "memory": Key("memory_bytes", size),
            "gpus": Key("gpus", whole(0)),
        },
        per_machine=True,
        capacity=_local_capacity,
    ),
    "ssh": TargetType(
        load=_ssh,
        keys={
            "host": Key("host", text),
            "port": Key("port", whole(1)),
            "user": Key("user", text),
            "key": Key("key", text, _beside_project),
            "known_hosts": Key("known_hosts", text, _beside_project),
            "python": Key("python", text),
            "folder": Key("folder", text),
            "workers": Key("workers", whole(1)),
            "cpus": Key("cpus", above_zero),
            "memory": Key("memory_bytes", size),
            "gpus": Key("gpus", whole(0)),
            "connect_timeout": Key("connect_timeout_s", above_zero),
            "reconnect": Key("reconnect_s", above_zero),
        },
        shareable=False,
        capacity=_ssh_capacity,
        check=_check_ssh,
    ),
    "dask": TargetType(
        load=_dask,
        keys={
            "address": Key("address", text),
            "security": Key("security", table_of_anything, _security_beside_project),
            "cluster": Key("cluster", text),
            "arguments": Key("arguments", table_of_anything),
            "workers": Key("workers", whole(1)),
            "minimum": Key("minimum", whole(0)),
            "maximum": Key("maximum", whole(1)),
            "idle": Key("idle_s", above_zero),
            "no_workers_timeout": Key("no_workers_timeout_s", above_zero),
            "connect_timeout": Key("connect_timeout_s", above_zero),
            "local_tier": Key("local_tier", text),
            "local_tier_bytes": Key("local_tier_bytes", size),
        },
        shareable=False,
        capacity=lambda options: _dask_plan(options).known_capacity(),
        largest=lambda options: _dask_plan(options).known_worker(),
        check=_check_dask,
        is_asked=True,
        extra="dask",
    ),
    "spark": TargetType(
        load=_spark,
        keys={
            "master": Key("master", text),
            "conf": Key("conf", table_of_anything),
            "python": Key("python", text),
            "host": Key("host", text),
            "tasks": Key("tasks", whole(1)),
            "sessions": Key("sessions", whole(1)),
            "no_workers_timeout": Key("no_workers_timeout_s", above_zero),
            "connect_timeout": Key("connect_timeout_s", above_zero),
        },
        shareable=False,
        check=_check_spark,
        extra="spark",
    ),
}
ALWAYS_THERE = ("inline", "local")
"""Targets that need no configuration; each is of the type of its name."""
