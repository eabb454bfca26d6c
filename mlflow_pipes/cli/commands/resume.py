"""``pipes resume``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.commands.run import exit_code, parsed_tags, tell_end, with_workers
from mlflow_pipes.cli.configuration_option import configuration_option
from mlflow_pipes.cli.standard_options import existing, json_option, workspace_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.workspace.run_configuration import RunConfiguration

_HELP = """Go on with a run that failed, was cancelled or was killed.

What it was called with runs again as a new run that is linked to it. What is done is reused, as in any run; effects
(steps with reuse="never") that happened in the runs resumed are not done again. The pipeline is declared from its file
as that is now.
"""


@click.command("resume", help=_HELP, short_help="Go on with a run that failed, was cancelled or was killed.")
@click.argument("run", default="latest", metavar="[RUN]")
@workspace_option
@configuration_option
@click.option("--target", metavar="NAME", help="Compute target for steps that name none.  [default: as before]")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes of local targets.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Label for the run; may be repeated.")
@click.option("--continue/--fail-fast", "go_on", default=None, help="As for pipes run.  [default: as before]")
@click.option("--quiet", is_flag=True, help="Show no progress and no summary.")
@json_option
def command(
    *,
    run: str,
    workspace: str | None,
    configuration: RunConfiguration | None,
    target: str | None,
    workers: int | None,
    tags: Sequence[str],
    go_on: bool | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Resume and return the exit code."""
    from mlflow_pipes.workspace.resuming import call_of_run
    from mlflow_pipes.workspace.running import resume

    home = with_workers(existing(workspace), workers)
    before = home.runs.get(run)
    folder = Path(call_of_run(home, before).folder)
    if folder.is_dir():
        os.chdir(folder)  # relative paths among the arguments were meant from there
    done = resume(
        before.id,
        workspace=home,
        target=target,
        configuration=configuration,
        observers=() if quiet else None,
        raise_on_failure=False,
        tags=parsed_tags(tags) or None,
        fail_fast=None if go_on is None else not go_on,
    )
    tell_end(done, quiet=quiet, as_json=as_json)
    return exit_code(done)
