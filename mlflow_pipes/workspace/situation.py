"""What holds for one run: what its call says, over its run configuration, over the project's configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, TypeAlias

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.environment import DEFAULT, Environment
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.routing import Routing
from mlflow_pipes.workspace.checked_tables import listed
from mlflow_pipes.workspace.configuration import Configuration
from mlflow_pipes.workspace.named_pipelines import check_pipelines
from mlflow_pipes.workspace.run_configuration import RunConfiguration

NamedConfiguration: TypeAlias = RunConfiguration | str | Path
"""A run configuration, its name, or the path of its file."""

CONFIGURATION_TAG = "pipes.configuration"
"""The label of a run that names its run configuration."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for one run.

    Attributes:
        configuration: targets, environment variables and so on, those of the run configuration among them.
        routing: where steps go.
        environment: the name of what steps run with that name nothing themselves, nor does a pipeline around them;
            None for the interpreter that declares the pipeline.
        tags: labels for the run.
        experiment: of the call or the run configuration; None for what the pipeline says.
    """

    configuration: Configuration
    routing: Routing
    environment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str | None = None


def situation_of(
    configuration: Configuration,
    run_configuration: RunConfiguration | None = None,
    *,
    target: str | None = None,
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
) -> Situation:
    """Return what holds for a run; what is given by name here is what its call says.

    Raises:
        ConfigurationError: a target is named that is not configured.
    """
    if run_configuration is None:
        routing = Routing(configuration.target, target)
        tags = dict(tags or {})
    else:
        configuration = over(configuration, run_configuration)
        named = run_configuration.target is not None
        source = f"{run_configuration.where}: target" if named else "the workspace"
        routing = Routing(configuration.target, target, run_configuration.rules, source)
        tags = {CONFIGURATION_TAG: run_configuration.name, **run_configuration.tags, **(tags or {})}
        experiment = experiment or run_configuration.experiment
    if target is not None and target not in configuration.targets:
        known = configuration.targets
        raise ConfigurationError(f"there is no target {target!r}{suggest(target, known)} (known: {listed(known)})")
    environment = None if run_configuration is None else run_configuration.environment
    return Situation(configuration, routing, environment, tags, experiment)


def over(configuration: Configuration, run_configuration: RunConfiguration) -> Configuration:
    """Return the project's configuration with a run configuration over it.

    Raises:
        ConfigurationError: the run configuration names a target or an environment that is not there.
    """
    targets = {**configuration.targets, **run_configuration.targets}
    environments = {**configuration.environments, **run_configuration.environments}
    run_configuration.check_targets(targets)
    _check_environment(run_configuration, environments)
    return replace(
        configuration,
        target=run_configuration.target or configuration.target,
        targets=targets,
        environments=environments,
        environ={**configuration.environ, **run_configuration.environ},
    )


def _check_environment(run_configuration: RunConfiguration, known: Mapping[str, Environment]) -> None:
    named, names = run_configuration.environment, sorted({*known, DEFAULT})
    if named is not None and named not in names:
        raise ConfigurationError(
            f"{run_configuration.where}: environment: there is no environment {named!r}{suggest(named, names)} "
            f"(known: {', '.join(names)})"
        )


def loaded(named: NamedConfiguration | None, configuration: Configuration) -> RunConfiguration | None:
    """Return the run configuration that is meant, None for none; errors as of :meth:`RunConfiguration.load`."""
    if named is None or isinstance(named, RunConfiguration):
        return named
    return RunConfiguration.load(named, configuration.folder)


def called(call: Any, run_configuration: RunConfiguration | None) -> Any:
    """Return a call; a pipeline itself is called with the parameters that the run configuration has for it.

    Raises:
        DeclarationError: the pipeline has no such parameters, or is declared wrongly.
    """
    from mlflow_pipes.authoring.pipeline import Pipeline

    if not isinstance(call, Pipeline):
        return call
    return call() if run_configuration is None else call(**parameters_for(call.name, call.function, run_configuration))


def parameters_for(pipeline: str, function: Callable[..., Any], run_configuration: RunConfiguration) -> dict[str, Any]:
    """Return the arguments that a run configuration has for a pipeline, as values of the parameters' types.

    Raises:
        ConfigurationError: the pipeline has no such parameter, or it is of another type; or arguments are meant for a
            pipeline that is nowhere, but called nearly as one that is.
    """
    check_pipelines(run_configuration, pipeline, function)
    from mlflow_pipes.hints import hints_of
    from mlflow_pipes.workspace.written_values import fitted

    hints, known = hints_of(function), list(inspect.signature(function).parameters)
    found = {}
    for name, value in run_configuration.parameters.get(pipeline, {}).items():
        what = f"{run_configuration.where}: parameters.{pipeline}.{name}"
        if name not in known:
            raise ConfigurationError(
                f"{what}: the pipeline has no such parameter{suggest(name, known)} (known: {', '.join(known)})"
            )
        try:
            found[name] = fitted(value, hints.get(name, Any))
        except ValueError as error:
            raise ConfigurationError(f"{what}: {error}") from error
    return found
