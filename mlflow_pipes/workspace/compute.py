"""The compute targets of a workspace: what the configuration names, plus ``local`` and ``inline``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import TargetEvent
from mlflow_pipes.ports import ComputeTarget, Datastore
from mlflow_pipes.workspace.local_tiers import with_local_tier
from mlflow_pipes.workspace.placing import configured_target
from mlflow_pipes.workspace.target_configuration import (
    TargetConfiguration,
    check_target,
    configured_at,
    located_options,
    maker_of,
)
from mlflow_pipes.workspace.target_types import TARGET_TYPES


def make_targets(
    names: Iterable[str],
    *,
    configured: Mapping[str, TargetConfiguration],
    folder: Path,
    project: Path,
    datastore: Datastore,
) -> dict[str, ComputeTarget]:
    """Return targets by name, not started.

    Args:
        names: of the configuration.
        configured: targets of the configuration by name.
        folder: of the workspace.
        project: the folder that paths in the configuration are relative to.
        datastore: that the workers use.

    Raises:
        ConfigurationError: a target's options are wrong.
    """
    return {
        name: make_target(name, "a step", configured=configured, folder=folder, project=project, datastore=datastore)
        for name in sorted(names)
    }


def make_target(
    name: str,
    user: str,
    *,
    configured: Mapping[str, TargetConfiguration],
    folder: Path,
    project: Path,
    datastore: Datastore,
) -> ComputeTarget:
    """Return one target, not started; *user* is who asks for it, for errors; others as of :func:`make_targets`.

    Raises:
        ConfigurationError: it is not there, or its options are wrong.
    """
    target = configured_target(name, user, configured)
    make = maker_of(target)
    check_target(target)
    options = located_options(target, project)
    if target.type in TARGET_TYPES:
        options = with_local_tier(options, datastore)
    try:
        return make(
            name,
            datastore,
            checkout=folder / "checkout",
            scratch=folder / "scratch",
            workspace=str(folder),
            **options,
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{configured_at(target)}: {error}") from error


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
