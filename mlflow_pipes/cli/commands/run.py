"""``pipes run``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.configuration_option import call_given, configuration_option
from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.program_command import ProgramCommand
from mlflow_pipes.cli.standard_options import json_option, workspace_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_pipes.workspace import Run, Workspace
    from mlflow_pipes.workspace.run_configuration import RunConfiguration
    from mlflow_pipes.workspace.target_configuration import TargetConfiguration

FAILED, CANCELLED, INTERRUPTED = 1, 3, 130

_HELP = """Run a pipeline, reusing what is already computed.

FILE[:PIPELINE] is the Python file that declares it, and its name where the file declares several. The pipeline's
parameters are options that stand after it; see them with: pipes run FILE --help
"""


@click.command("run", cls=ProgramCommand, help=_HELP, short_help="Run a pipeline, reusing what is already computed.")
@click.argument("file", metavar="FILE[:PIPELINE]")
@workspace_option
@configuration_option
@click.option(
    "--target",
    metavar="NAME",
    help="Compute target for steps that name none.  [default: what rules, the pipeline or the workspace say]",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes of local targets.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Label for the run; may be repeated.")
@click.option("--experiment", metavar="NAME", help="MLflow experiment.  [default: the pipeline's name]")
@click.option(
    "--continue/--fail-fast",
    "go_on",
    default=None,
    help="After a failure do all that does not depend on it, or stop at once.  [default: what the pipeline says]",
)
@click.option(
    "--priority",
    type=int,
    metavar="N",
    help="Larger goes first where runs share targets or tokens.  [default: what the pipeline says]",
)
@click.option("--quiet", is_flag=True, help="Show no progress and no summary.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    workspace: str | None,
    configuration: RunConfiguration | None,
    target: str | None,
    workers: int | None,
    tags: Sequence[str],
    experiment: str | None,
    go_on: bool | None,
    priority: int | None,
    quiet: bool,
    as_json: bool,
    **_: Any,
) -> int:
    """Run and return the exit code."""
    from mlflow_pipes.workspace.running import run
    from mlflow_pipes.workspace.workspace import located

    call = call_given(ctx, configuration)
    done: Run = run(
        call,
        workspace=with_workers(located(workspace), workers),
        target=target,
        configuration=with_workers_there(configuration, workers),
        observers=() if quiet else None,
        raise_on_failure=False,
        tags=parsed_tags(tags),
        experiment=experiment,
        fail_fast=None if go_on is None else not go_on,
        priority=priority,
    )
    tell_end(done, quiet=quiet, as_json=as_json)
    return exit_code(done)


def tell_end(run: Run, *, quiet: bool, as_json: bool) -> None:
    """Write what scripts read of an ended run to standard output."""
    if as_json:
        from mlflow_pipes.cli.records import run_record

        write_json(run_record(run))
    elif os.environ.get("PIPES_DISPLAY") == "off" and not quiet:
        click.echo(run.id)


def exit_code(run: Run) -> int:
    """Return how the command ends for a run that ended so."""
    if run.status == "succeeded":
        return 0
    if run.status in {"cancelled", "interrupted"}:
        return INTERRUPTED if "Ctrl-C" in (run.message or "") else CANCELLED
    return FAILED


def parsed_tags(texts: Sequence[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as tags.

    Raises:
        click.BadParameter: one has no ``=`` or no key.
    """
    tags = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--tag")
        tags[key.strip()] = value
    return tags


def with_workers(workspace: Workspace, workers: int | None) -> Workspace:
    """Return the workspace with that many worker processes in each local target."""
    if workers is not None:
        configuration = workspace.configuration
        workspace.configuration = replace(configuration, targets=_with_workers(configuration.targets, workers))
    return workspace


def with_workers_there(configuration: RunConfiguration | None, workers: int | None) -> RunConfiguration | None:
    """Return the run configuration with that many worker processes in each local target that it defines."""
    if configuration is None or workers is None:
        return configuration
    return replace(configuration, targets=_with_workers(configuration.targets, workers))


def _with_workers(targets: Mapping[str, TargetConfiguration], workers: int) -> dict[str, TargetConfiguration]:
    return {
        name: replace(target, options={**target.options, "workers": workers}) if target.type == "local" else target
        for name, target in targets.items()
    }
