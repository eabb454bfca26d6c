"""``pipes run``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.parameters import arguments_given
from mlflow_pipes.cli.program_command import ProgramCommand, program_of
from mlflow_pipes.cli.standard_options import json_option, workspace_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.workspace import Run, Workspace

FAILED, CANCELLED, INTERRUPTED = 1, 3, 130

_HELP = """Run a pipeline, reusing what is already computed.

FILE[:PIPELINE] is the Python file that declares it, and its name where the file declares several. The pipeline's
parameters are options that stand after it; see them with: pipes run FILE --help
"""


@click.command("run", cls=ProgramCommand, help=_HELP, short_help="Run a pipeline, reusing what is already computed.")
@click.argument("file", metavar="FILE[:PIPELINE]")
@workspace_option
@click.option("--target", metavar="NAME", help="Compute target for steps that name none.  [default: local]")
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

    program = program_of(ctx)
    call = program.call(arguments_given(ctx))
    done: Run = run(
        call,
        workspace=with_workers(located(workspace), workers),
        target=target,
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
        targets = {
            name: replace(target, options={**target.options, "workers": workers}) if target.type == "local" else target
            for name, target in configuration.targets.items()
        }
        workspace.configuration = replace(configuration, targets=targets)
    return workspace
