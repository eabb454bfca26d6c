"""``workspace.compute``: the compute targets that there are, attached and detached, turned on and off, tested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.errors import ConfigurationError, NotFoundError, PipesError, suggest
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.ports import ComputeTarget, Managed
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace import attached_targets
from mlflow_pipes.workspace.compute import make_target
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, check_target, known_capacity, maker_of
from mlflow_pipes.workspace.target_types import ALWAYS_THERE, TARGET_TYPES

if TYPE_CHECKING:
    from mlflow_pipes.workspace.probe import ProbeReport
    from mlflow_pipes.workspace.workspace import Workspace

_TEST_WITHIN_S = 60.0
_ON_DEMAND, _ON, _OFF = "on demand", "on", "off"
_NAME = re.compile(r"[^\W\d_][\w.-]*")


@dataclass(frozen=True, slots=True)
class StepOnTarget:
    """A step that has been given to a target, in any run of the workspace.

    Attributes:
        status: ``queued`` or ``running``.
        started_at: when it began; None while it is queued.
    """

    target: str
    run_id: str
    pipeline: str
    node: str
    status: str
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Target:
    """A compute target as it stands.

    Attributes:
        type: its kind.
        status: ``on demand`` (each run starts what it needs, and ends it), or of a managed one ``on`` or ``off``; empty
            of one that would take long to ask, in lists.
        is_default: steps go there that nothing else is said of.
        shared: all runs together get no more than it has.
        source: ``built in``, ``attached``, or the file that configures it.
        options: what is said of it, without passwords.
        capacity: what it holds at once; None where only a running one knows (``test`` asks it).
        steps: what is running or queued there.
    """

    name: str
    type: str
    status: str
    is_default: bool
    shared: bool
    source: str
    options: Mapping[str, Any]
    capacity: Capacity | None
    steps: tuple[StepOnTarget, ...]


class ComputeTargets:
    """The compute targets of a workspace."""

    def __init__(self, home: Workspace) -> None:
        self._home = home

    def list(self) -> list[Target]:
        """Return all targets by name. Those of other packages are not asked whether they are on."""
        steps = self._steps()
        return [self._target(one, steps) for _, one in sorted(self._home.configuration.targets.items())]

    def show(self, name: str) -> Target:
        """Return one target; a managed one is asked whether it is on.

        Raises:
            NotFoundError: there is none of that name.
            ConfigurationError: its configuration is wrong.
        """
        configured = self._configured(name)
        status = _status(self._made(name))
        return replace(self._target(configured, self._steps()), status=status)

    def attach(self, name: str, *, type: str | None = None, **keys: Any) -> Target:  # noqa: A002 - the key's name
        """Add a target to the workspace, for this and later processes; one attached under that name is replaced.

        Args:
            name: of the target.
            type: its kind; by default the name's.
            **keys: as they would stand in ``pipes.toml``.

        Raises:
            ConfigurationError: a key is wrong; the project's configuration defines the name, and that comes first; or
                one of that name is on.
        """
        before = self._home.configuration.targets.get(name)
        if before is not None and before.source and before.source != self._file:
            raise ConfigurationError(
                f"target {name!r} is defined in {before.source}, which comes first: change it there"
            )
        self._check_off(name)
        given = {**({} if type is None else {"type": type}), **keys}
        _check_name(name)
        target = attached_targets.read_attached(name, given)
        maker_of(target)
        check_target(replace(target, source=""))
        attached_targets.attach(self._home.folder, name, given)
        self._reload()
        return self._target(self._home.configuration.targets[name], self._steps())

    add = attach

    def detach(self, name: str) -> None:
        """Forget a target that was attached; what runs there goes on.

        Raises:
            NotFoundError: none of that name was attached.
            ConfigurationError: the project's configuration defines it, so that it is to be removed there; or it is on.
        """
        before = self._home.configuration.targets.get(name)
        if before is not None and before.source != self._file:
            where = f"in {before.source}: remove it there" if before.source else "always there"
            raise ConfigurationError(f"target {name!r} was not attached, it is {where}")
        self._check_off(name)
        attached_targets.detach(self._home.folder, name)
        self._reload()

    def start(self, name: str) -> Target:
        """Turn a managed target on, and wait until it is.

        Raises:
            NotFoundError: there is none of that name.
            ConfigurationError: it is not managed.
            TargetError: it cannot be turned on.
        """
        self._managed(name, "turned on").turn_on()
        return self.show(name)

    def stop(self, name: str) -> Target:
        """Turn a managed target off, and wait until it is; errors as of :meth:`start`."""
        self._managed(name, "turned off").turn_off()
        return self.show(name)

    def test(self, name: str, *, timeout_s: float = _TEST_WITHIN_S) -> ProbeReport:
        """Run a probe step on a target, and report how that went.

        Args:
            name: of the target.
            timeout_s: how long to wait for the step.

        Raises:
            NotFoundError: there is none of that name.
            ConfigurationError: its configuration is wrong.
        """
        from mlflow_pipes.workspace.probe import probed

        self._configured(name)
        environ = self._home.configuration.step_environ(self._home.folder)
        return probed(self._made(name), self._home.datastore, environ, timeout_s=timeout_s)

    @property
    def _file(self) -> str:
        return str(self._home.folder / attached_targets.FILE)

    def _configured(self, name: str) -> TargetConfiguration:
        targets = self._home.configuration.targets
        if name not in targets:
            raise NotFoundError(f"no target {name!r}{suggest(name, targets)} (there are: {', '.join(sorted(targets))})")
        return targets[name]

    def _made(self, name: str) -> ComputeTarget:
        home = self._home
        return make_target(
            name,
            "",
            configured=home.configuration.targets,
            folder=home.folder,
            project=home.configuration.folder,
            datastore=home.datastore,
        )

    def _check_off(self, name: str) -> None:
        """Raise ``ConfigurationError`` for a target that is on: nobody could turn it off when it is not known."""
        try:
            is_on = name in self._home.configuration.targets and _status(self._made(name)) == _ON
        except PipesError:
            return  # its package is gone, or what is said of it is wrong
        if is_on:
            raise ConfigurationError(f"target {name!r} is on: turn it off first (pipes compute stop {name})")

    def _managed(self, name: str, done: str) -> Managed:
        target = self._configured(name)
        made = self._made(name)
        if not isinstance(made, Managed):
            raise ConfigurationError(
                f"target {name!r} of type {target.type!r} cannot be {done}: each run starts what it needs there, or "
                "takes it as it is"
            )
        return made

    def _reload(self) -> None:
        configuration = self._home.configuration
        kept = {name: one for name, one in configuration.targets.items() if one.source != self._file}
        always = {name: TargetConfiguration(name, name) for name in ALWAYS_THERE}
        attached = attached_targets.attached_targets(self._home.folder)
        first = {name: one for name, one in kept.items() if one.source}
        self._home.configuration = replace(configuration, targets={**always, **attached, **first})

    def _target(self, one: TargetConfiguration, steps: Mapping[str, tuple[StepOnTarget, ...]]) -> Target:
        return Target(
            name=one.name,
            type=one.type,
            status=self._listed_status(one),
            is_default=one.name == self._home.configuration.target,
            shared=one.shared,
            source="attached" if one.source == self._file else one.source or "built in",
            options=_shown(one.options),
            capacity=known_capacity(one),
            steps=steps.get(one.name, ()),
        )

    def _listed_status(self, one: TargetConfiguration) -> str:
        ours = TARGET_TYPES.get(one.type)
        if ours is None:
            return ""
        if not ours.is_asked:
            return _ON_DEMAND
        try:
            return _status(self._made(one.name))
        except PipesError:
            return ""  # what is wrong with it is told to who uses it

    def _steps(self) -> dict[str, tuple[StepOnTarget, ...]]:
        """Return what is on each target, by its name."""
        self._home.runs.mark_interrupted()
        found: dict[str, tuple[StepOnTarget, ...]] = {}
        for target, run_id, pipeline, node, status, started_at in self._home.runs.history.on_targets():
            at = None if started_at is None else datetime.fromtimestamp(started_at, UTC)
            step = StepOnTarget(target, run_id, pipeline, node, status, at)
            found[target] = (*found.get(target, ()), step)
        return found


def _status(made: ComputeTarget) -> str:
    if not isinstance(made, Managed):
        return _ON_DEMAND
    return _ON if made.is_on() else _OFF


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a target cannot be called {name!r}: use letters, digits, '_', '-' and '.', and begin with a letter"
        )


def _shown(value: Any) -> Any:
    """Return what a configuration says, without passwords in URLs."""
    if isinstance(value, Mapping):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return without_credentials(value) if isinstance(value, str) else value
