"""What the configuration says of compute targets: read, checked, and what makes such a target or tells its size.

Types of our own are in :mod:`mlflow_pipes.workspace.target_types`. Other packages offer theirs by entry point (group
:data:`ENTRY_POINTS`): what makes the target, a class as a rule, whose keyword arguments are its keys.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.checked_tables import Table, flag, listed, text
from mlflow_pipes.workspace.target_types import TARGET_TYPES, MakesTarget, TargetType

ENTRY_POINTS = "mlflow_pipes.compute_targets"
GIVEN = ("name", "datastore", "checkout", "scratch", "workspace")
"""The arguments that what makes a target is given besides what the configuration says."""


@dataclass(frozen=True, slots=True)
class TargetConfiguration:
    """A compute target that steps can name.

    Attributes:
        type: which kind of target.
        options: keyword arguments of what makes it, checked where the type is ours.
        shared: all runs of the workspace together get no more than the target has.
        source: where it is written, such as the path of ``pipes.toml``; empty for those that are always there.
        problem: why it cannot be used, where that is told only to who uses it; its options are not checked then.
    """

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: bool = False
    source: str = ""
    problem: str = ""


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
        found: MakesTarget = ours.load(target.options) if ours else offered[target.type].load()
    except ImportError as error:
        remedy = f": pip install 'mlflow_pipes[{ours.extra}]'" if ours and ours.extra else ""
        raise ConfigurationError(
            f"target {target.name!r} is of type {target.type!r}, which cannot be imported ({error}){remedy}"
        ) from error
    if ours is None:
        _check_arguments(found, target)
    return found


def check_target(target: TargetConfiguration) -> None:
    """Check that what is said of a target goes together, and nothing is missing.

    Raises:
        ConfigurationError: naming where it is configured.
    """
    if target.problem:
        raise ConfigurationError(target.problem)
    ours = TARGET_TYPES.get(target.type)
    if ours is not None:
        try:
            ours.check(target.options)
        except ConfigurationError as error:
            raise ConfigurationError(f"{configured_at(target)}: {error}") from None


def configured_at(target: TargetConfiguration) -> str:
    """Return where a target is configured, for errors."""
    return f"{f'{target.source}: ' if target.source else ''}target {target.name!r}"


def located_options(target: TargetConfiguration, project: Path) -> dict[str, Any]:
    """Return a target's options with paths absolute that are relative to the project's folder."""
    ours = TARGET_TYPES.get(target.type)
    places = {} if ours is None else {key.argument: key.located for key in ours.keys.values()}
    return {name: places[name](value, project) if name in places else value for name, value in target.options.items()}


def known_capacity(target: TargetConfiguration) -> Capacity | None:
    """Return what a target holds, as far as that is known without starting it."""
    ours = _type_of_well(target)
    return None if ours is None else ours.capacity(target.options)


def known_largest(target: TargetConfiguration) -> Capacity | None:
    """Return the most that a target can give to one step, as far as that is known without starting it."""
    ours = _type_of_well(target)
    return None if ours is None else (ours.largest or ours.capacity)(target.options)


def _type_of_well(target: TargetConfiguration) -> TargetType | None:
    """Return the type of a target if it is one of ours, and nothing is wrong with what is said of the target."""
    try:
        check_target(target)
    except ConfigurationError:  # told to who uses it
        return None
    return TARGET_TYPES.get(target.type)


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
