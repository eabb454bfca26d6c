"""``pipes cancel``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.records import run_head
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.words import short_id
from mlflow_pipes.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_pipes.model.run import Status
    from mlflow_pipes.workspace import Run, Workspace

_POLL_S = 0.2
_HELP = """Ask a running run to stop; its steps are ended, what is done stays done.

With STEP only these steps or sub-pipelines are stopped, each with all that is in it: what needs their output is
skipped, the others go on.
"""


@click.command("cancel", help=_HELP, short_help="Ask a running run, or some steps of it, to stop.")
@click.argument("run")
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who look at the run.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait until it has stopped.")
@reads_workspace
def command(
    *, run: str, steps: Sequence[str], reason: str, wait_s: float | None, workspace: str | None, as_json: bool
) -> None:
    """Cancel a run, or steps of it.

    Raises:
        TargetError: it had not stopped after the time to wait.
    """
    with existing(workspace) as home:
        before = home.runs.get(run)
        nodes = [before.part(step).node for step in steps]
        was = _stand(before, nodes)
        if not nodes:
            home.runs.cancel(before.id, reason=reason)
        for node in nodes:
            home.runs.cancel(before.id, node, reason=reason)
        found = _waited(home, before.id, nodes, wait_s)
        stands = _stand(found, nodes)
    if as_json:
        asked = [{"node": node, "status": stands[node].value} for node in nodes]
        write_json({**run_head(found), "cancel_requested": found.cancel_requested, "steps": asked})
        return
    for what, status in stands.items():
        click.echo(_told(what, was[what], status, found))


def _stand(run: Run, nodes: Sequence[str]) -> Mapping[str, Status]:
    """Return where the run stands, or these parts of it, by what they are called."""
    if not nodes:
        return {f"run {short_id(run.id)}": run.status}
    now = {child.node: child.status for child in run.children}
    return {node: run.status if run.status.ended and not now[node].ended else now[node] for node in nodes}


def _waited(home: Workspace, run_id: str, nodes: Sequence[str], wait_s: float | None) -> Run:
    deadline = time.monotonic() + (wait_s or 0.0)
    while True:
        found = home.runs.get(run_id)
        open_ones = [what for what, status in _stand(found, nodes).items() if not status.ended]
        if wait_s is None or not open_ones:
            return found
        if time.monotonic() >= deadline:
            raise TargetError(f"{', '.join(open_ones)} has not stopped after {wait_s:g} s; it is asked to")
        time.sleep(_POLL_S)


def _told(what: str, was: Status, status: Status, run: Run) -> str:
    if was.ended:
        return f"{what} had already ended: {was.value}"
    if status.ended:
        return f"{what} has stopped: {status.value}"
    return f"{what} is asked to stop; it obeys within seconds (pipes show {short_id(run.id)})"
