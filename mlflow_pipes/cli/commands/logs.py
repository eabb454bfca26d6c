"""``pipes logs``."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.output import iso, stdout_look
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.look import Look, clip
from mlflow_pipes.display.spoken import LABEL_CELLS
from mlflow_pipes.display.words import short_id
from mlflow_pipes.model.run import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_pipes.model.attempt import LogLine
    from mlflow_pipes.workspace import Run, Workspace

_ASK_EVERY_S = 0.5


@click.command("logs", help="Show what the steps of a run wrote; of a failed step also its whole traceback.")
@click.argument("run", default="latest", metavar="[RUN]")
@click.argument("step", required=False, metavar="[STEP]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@reads_workspace
def command(*, run: str, step: str | None, follow: bool, workspace: str | None, as_json: bool) -> None:
    """Write a run's log; as JSON one object a line."""
    from mlflow_pipes.workspace.logs import LogFilter, follow_log, read_log

    with existing(workspace) as home:
        found = home.runs.get(run)
        if step is not None and not any(step in {one.node, one.node.partition("[")[0]} for one in found.steps):
            step = found.step(step).node
        wanted = LogFilter(node=step)
        if follow:
            lines = follow_log(home.folder, found.id, _ended(home, found), wanted)
        else:
            lines = read_log(home.folder, found.id, wanted)
        look = stdout_look(cut=False)
        nothing = True
        for line in lines:
            nothing = False
            sys.stdout.write(_json(line) if as_json else _text(line, look, named=step is None))
            if follow:
                sys.stdout.flush()
        if not as_json:
            found = home.runs.get(found.id)
            if not _write_tracebacks(found, step, look) and nothing:
                click.echo(_silence(found, step), err=True)


def _text(line: LogLine, look: Look, *, named: bool) -> str:
    at = dt.datetime.fromtimestamp(line.at, dt.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    label = f" {clip(line.attempt.node, LABEL_CELLS, look.dots)}" if named else ""
    attempt = f"#{line.attempt.number}" if line.attempt.number > 1 else ""
    return look.text([(f"{at}{label}{attempt} {look.rule} ", "dim"), (line.text, "")]) + "\n"


def _json(line: LogLine) -> str:
    record = {
        "at": iso(line.at),
        "node": line.attempt.node,
        "attempt": line.attempt.number,
        "stream": line.stream,
        "text": line.text,
    }
    return json.dumps(record) + "\n"


def _silence(run: Run, step: str | None) -> str:
    """Return what is said of a run without a log; a reused step wrote in the run that computed it."""
    who = f"step {step} of run {short_id(run.id)}" if step else f"run {short_id(run.id)}"
    ran = [one for one in run.steps if step in {None, one.node, one.node.partition("[")[0]}]
    origins = sorted({short_id(one.reused_from_run) for one in ran if one.reused and one.reused_from_run})
    elsewhere = f"; reused steps ran in {', '.join(origins)}" if origins else ""
    return f"{who} wrote nothing{elsewhere}"


def _write_tracebacks(run: Run, step: str | None, look: Look) -> bool:
    """Write the failures of a run's steps; tells whether there was any."""
    wrote = False
    for one in run.steps:
        if one.status is Status.FAILED and step in {None, one.node, one.node.partition("[")[0]}:
            failure = one.failure
            wrote = True
            text = (failure.traceback or failure.message) if failure else one.reason
            sys.stdout.write(look.paint(f"{look.symbol(Status.FAILED)} {one.node} failed", "bold red") + "\n")
            sys.stdout.write(look.readable_lines(text))
    return wrote


def _ended(home: Workspace, run: Run) -> Callable[[], bool]:
    """Return what tells whether the run is over, without asking the ledger ten times a second."""
    next_at = 0.0
    over = run.status.ended

    def ended() -> bool:
        nonlocal next_at, over
        if not over and time.monotonic() >= next_at:
            next_at = time.monotonic() + _ASK_EVERY_S
            over = home.runs.get(run.id).status.ended
        return over

    return ended
