"""``pipes cancel``."""

from __future__ import annotations

import time

import click

from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.records import run_head
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.words import short_id
from mlflow_pipes.errors import TargetError

_POLL_S = 0.2


@click.command("cancel", help="Ask a running run to stop; its steps are ended, what is done stays done.")
@click.argument("run")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait until it has stopped.")
@reads_workspace
def command(*, run: str, wait_s: float | None, workspace: str | None, as_json: bool) -> None:
    """Cancel a run.

    Raises:
        TargetError: it had not stopped after the time to wait.
    """
    with existing(workspace) as home:
        before = home.runs.get(run)
        found = home.runs.cancel(before.id)
        deadline = time.monotonic() + (wait_s or 0.0)
        while wait_s is not None and not found.status.ended:
            if time.monotonic() >= deadline:
                raise TargetError(f"run {short_id(found.id)} has not stopped after {wait_s:g} s; it is asked to")
            time.sleep(_POLL_S)
            found = home.runs.get(found.id)
    if as_json:
        write_json({**run_head(found), "cancel_requested": found.cancel_requested})
    elif before.status.ended:
        click.echo(f"run {short_id(found.id)} had already ended: {found.status.value}")
    elif found.status.ended:
        click.echo(f"run {short_id(found.id)} has stopped: {found.status.value}")
    else:
        click.echo(
            f"run {short_id(found.id)} is asked to stop; it obeys within seconds (pipes show {short_id(found.id)})"
        )
