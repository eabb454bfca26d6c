"""The compute targets of a workspace: what the configuration names, plus ``local`` and ``inline``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.attempt import TargetEvent
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.ports import ComputeTarget, Datastore
from mlflow_pipes.workspace.configuration import TargetConfiguration

ENTRY_POINTS = "mlflow_pipes.compute_targets"


def _class_of(kind: str, target: str) -> Callable[..., ComputeTarget]:
    """Return what makes targets of a type.

    Raises:
        ConfigurationError: nobody offers the type.
    """
    if kind == "local":
        from mlflow_pipes.targets.local import LocalTarget

        return LocalTarget
    if kind == "inline":
        from mlflow_pipes.targets.inline import InlineTarget

        return InlineTarget
    from importlib.metadata import entry_points  # 12 ms that who has only these two need not pay

    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if kind not in offered:
        known = ["local", "inline", *sorted(offered)]
        raise ConfigurationError(
            f"target {target!r} is of type {kind!r}, which is not known{suggest(kind, known)} "
            f"(there are: {', '.join(known)})"
        )
    found: Callable[..., ComputeTarget] = offered[kind].load()
    return found


def make_targets(
    graph: Graph,
    *,
    default: str,
    configured: Mapping[str, TargetConfiguration],
    folder: Path,
    datastore: Datastore,
) -> dict[str, ComputeTarget]:
    """Return the targets that a graph's steps name, not started.

    Args:
        graph: what will run.
        default: target of steps that name none.
        configured: targets of the configuration by name.
        folder: of the workspace.
        datastore: that the workers use.

    Raises:
        ConfigurationError: a step names a target that is not there, or a target's options are wrong.
    """
    users: dict[str, str] = {}
    for node in graph.nodes.values():
        users.setdefault(node.options.target or default, node.id)
    return {
        name: make_target(name, f"step {users[name]!r}", configured=configured, folder=folder, datastore=datastore)
        for name in sorted(users)
    }


def make_target(
    name: str, user: str, *, configured: Mapping[str, TargetConfiguration], folder: Path, datastore: Datastore
) -> ComputeTarget:
    """Return one target, not started; *user* is who asks for it, for errors; others as of :func:`make_targets`.

    Raises:
        ConfigurationError: it is not there, or its options are wrong.
    """
    if name not in configured:
        raise ConfigurationError(
            f"{user} runs on target {name!r}, which is not configured{suggest(name, configured)} "
            f"(there are: {', '.join(sorted(configured))}); add [targets.{name}] to pipes.toml"
        )
    table = configured[name]
    options = {"workers": table.workers, "cpus": table.cpus, "memory_bytes": table.memory_bytes or None}
    options["gpus"] = table.gpus
    given = {**{key: value for key, value in options.items() if value is not None}, **table.options}
    make = _class_of(table.type, name)
    try:
        return make(
            name,
            datastore,
            checkout=folder / "checkout",
            scratch=folder / "scratch",
            workspace=str(folder),
            **given,
        )
    except TypeError as error:
        raise ConfigurationError(f"[targets.{name}] in the configuration: {error}") from error


@contextmanager
def started(targets: Iterable[ComputeTarget], report: Callable[[TargetEvent], None]) -> Iterator[None]:
    """Start targets, and close all that were started at the end, whatever happens."""
    open_targets: list[ComputeTarget] = []
    try:
        for target in targets:
            open_targets.append(target)
            target.start(report)
        yield
    finally:
        for target in reversed(open_targets):
            target.close()
