"""The types of compute targets: what makes a target of each, its keys in the configuration, and how large it is.

A type of our own stands in :data:`TARGET_TYPES`; nothing else knows types by name. Other packages offer theirs by entry
point (group :data:`ENTRY_POINTS`): what makes the target, a class as a rule, whose keyword arguments are its keys.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypeAlias

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.machine import capacity as machine
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.ports import ComputeTarget
from mlflow_pipes.workspace.checked_tables import Check, Table, above_zero, flag, listed, size, text, whole
from mlflow_pipes.workspace.checked_tables import table as table_of_anything

ENTRY_POINTS = "mlflow_pipes.compute_targets"
GIVEN = ("name", "datastore", "checkout", "scratch", "workspace")
"""The arguments that what makes a target is given besides what the configuration says."""

MakesTarget: TypeAlias = Callable[..., ComputeTarget]


@dataclass(frozen=True, slots=True)
class TargetConfiguration:
    """A compute target that steps can name.

    Attributes:
        type: which kind of target.
        options: keyword arguments of what makes it, checked where the type is ours.
        shared: all runs of the workspace together get no more than the target has.
        source: where it is written, such as the path of ``pipes.toml``; empty for those that are always there.
    """

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a target's table.

    Attributes:
        argument: the keyword argument of what makes the target.
        check: see :data:`~mlflow_pipes.workspace.checked_tables.Check`.
    """

    argument: str
    check: Check


@dataclass(frozen=True, slots=True)
class TargetType:
    """A kind of compute target.

    Attributes:
        load: imports and returns what makes one; called only when one is made.
        keys: of its table, besides ``type`` and ``shared``.
        shareable: its table may say ``shared``.
        per_machine: what runs share of it belongs to one machine: those of another have one of their own.
        capacity: what a target with these options holds, told without starting it; None when only a running one knows.
        extra: what to install with mlflow_pipes to use it; empty for nothing.
    """

    load: Callable[[], MakesTarget]
    keys: Mapping[str, Key]
    shareable: bool = True
    per_machine: bool = False
    capacity: Callable[[Mapping[str, Any]], Capacity | None] = lambda _: None
    extra: str = ""

    def table_keys(self) -> tuple[str, ...]:
        """Return all keys that its table may have."""
        return ("type", *self.keys, *(("shared",) if self.shareable else ()))


def _local() -> MakesTarget:
    from mlflow_pipes.targets.local import LocalTarget

    return LocalTarget


def _inline() -> MakesTarget:
    from mlflow_pipes.targets.inline import InlineTarget

    return InlineTarget


def _dask() -> MakesTarget:
    if find_spec("distributed") is None:  # imported when there is something to do
        raise ImportError("there is no distributed here")
    from mlflow_pipes.targets.dask import DaskTarget

    return DaskTarget


def _ssh() -> MakesTarget:
    from mlflow_pipes.targets.ssh import SshTarget

    return SshTarget


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
            "key": Key("key", text),
            "known_hosts": Key("known_hosts", text),
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
    ),
    "dask": TargetType(
        load=_dask,
        keys={
            "address": Key("address", text),
            "security": Key("security", table_of_anything),
            "cluster": Key("cluster", text),
            "arguments": Key("arguments", table_of_anything),
            "workers": Key("workers", whole(1)),
            "minimum": Key("minimum", whole(0)),
            "maximum": Key("maximum", whole(1)),
            "idle": Key("idle_s", above_zero),
            "no_workers_timeout": Key("no_workers_timeout_s", above_zero),
            "connect_timeout": Key("connect_timeout_s", above_zero),
        },
        shareable=False,
        extra="dask",
    ),
}
ALWAYS_THERE = ("inline", "local")
"""Targets that need no configuration; each is of the type of its name."""


def read_target(name: str, table: Table) -> TargetConfiguration:
    """Return the target that a table ``[targets.NAME]`` means.

    Of types that other packages offer the keys are checked when the target is made: that imports the package.

    Raises:
        ConfigurationError: the type is not known, or a key or its value is wrong.
    """
    type_ = table.read("type", text) or name
    ours = TARGET_TYPES.get(type_)
    if ours is None:
        known = {*TARGET_TYPES, *_offered()}
        if type_ not in known:
            raise ConfigurationError(
                f"{table.what('type')}: there is no type {type_!r}{suggest(type_, known)} (known: {listed(known)})"
            )
        options = {key: value for key, value in table.values.items() if key not in {"type", "shared"}}
    else:
        table.check_keys(ours.table_keys())
        options = {key.argument: table.read(name, key.check) for name, key in ours.keys.items() if name in table.values}
    return TargetConfiguration(name, type_, options, bool(table.read("shared", flag)), table.where)


def maker_of(target: TargetConfiguration) -> MakesTarget:
    """Return what makes a target of this type; its keys are checked by then.

    Raises:
        ConfigurationError: nobody offers the type, its package cannot be imported, or it has no such keys.
    """
    ours = TARGET_TYPES.get(target.type)
    offered = {} if ours else _offered()
    if ours is None and target.type not in offered:
        known = [*TARGET_TYPES, *offered]
        raise ConfigurationError(
            f"target {target.name!r} is of type {target.type!r}, which is not known{suggest(target.type, known)} "
            f"(there are: {listed(known)})"
        )
    try:
        found: MakesTarget = ours.load() if ours else offered[target.type].load()
    except ImportError as error:
        remedy = f": pip install 'mlflow_pipes[{ours.extra}]'" if ours and ours.extra else ""
        raise ConfigurationError(
            f"target {target.name!r} is of type {target.type!r}, which cannot be imported ({error}){remedy}"
        ) from error
    if ours is None:
        _check_arguments(found, target)
    return found


def known_capacity(target: TargetConfiguration) -> Capacity | None:
    """Return what a target holds, as far as that is known without starting it."""
    ours = TARGET_TYPES.get(target.type)
    return None if ours is None else ours.capacity(target.options)


def _offered() -> Mapping[str, Any]:
    from importlib.metadata import entry_points  # 12 ms that who has only our own types need not pay

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _check_arguments(make: MakesTarget, target: TargetConfiguration) -> None:
    """Check that what makes a target of another package has arguments for all of its keys."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return  # it cannot be told; the call will
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.name not in GIVEN]
    for key in target.options:
        if key not in known:
            raise ConfigurationError(
                f"{target.source or 'the configuration'}: unknown key 'targets.{target.name}.{key}'"
                f"{suggest(key, known)} (known: {listed(['type', 'shared', *known])})"
            )
