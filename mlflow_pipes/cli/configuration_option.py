"""``--config NAME``: a run configuration, whose parameters stand in for options that are not given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.parameters import ParameterOption, arguments_given
from mlflow_pipes.cli.program_command import ProgramCommand, program_of

if TYPE_CHECKING:
    from mlflow_pipes.workspace.run_configuration import RunConfiguration


def _loaded(ctx: click.Context, _: click.Parameter, name: str | None) -> RunConfiguration | None:
    """Return the run configuration; called before the pipeline's options are read."""
    if name is None or ctx.resilient_parsing:
        return None
    from mlflow_pipes.workspace.configuration import load
    from mlflow_pipes.workspace.run_configuration import RunConfiguration

    found = RunConfiguration.load(name, load().folder)
    if isinstance(ctx.command, ProgramCommand):
        from mlflow_pipes.workspace.named_pipelines import check_pipelines

        program = program_of(ctx)
        check_pipelines(found, program.name, program.function)
        given = found.parameters.get(program.name, {})
        for option in ctx.command.params:
            if isinstance(option, ParameterOption) and option.parameter in given:
                option.required = False
    return found


def call_given(ctx: click.Context, configuration: RunConfiguration | None) -> Any:
    """Return the call of the program, with the arguments of the command line and, below them, of *configuration*."""
    program = program_of(ctx)
    arguments = arguments_given(ctx)
    if configuration is not None:
        from mlflow_pipes.workspace.situation import parameters_for

        arguments = {**parameters_for(program.name, program.function, configuration), **arguments}
    return program.call(arguments)


configuration_option = click.option(
    "--config",
    "configuration",
    metavar="NAME",
    is_eager=True,
    callback=_loaded,
    help="Run configuration: a file in configurations/ beside pipes.toml, or a path.",
)
