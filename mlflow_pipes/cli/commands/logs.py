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
from mlflow_pipes.workspace.logs import Followed, LogFilter, follow_log, log_file, read_log

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import LogLine
    from mlflow_pipes.workspace import Run, Workspace

_ASK_EVERY_S = 0.5
_FOLLOW = "Go on until the run ends; with the lines of other runs that compute what its steps wait for."


@click.command("logs", help="Show what the steps of a run wrote; of a failed step also its whole traceback.")
@click.argument("run", default="latest", metavar="[RUN]")
@click.argument("step", required=False, metavar="[STEP]")
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on until the run ends; where a step waits for another run that computes the same, with that one's lines.",
)
@reads_workspace
def command(*, run: str, step: str | None, follow: bool, workspace: str | None, as_json: bool) -> None:
    """Write a run's log; as JSON one object a line."""
    with existing(workspace) as home:
        found = home.runs.get(run)
        if step is not None and not any(step in {one.node, one.node.partition("[")[0]} for one in found.steps):
            step = found.step(step).node
        wanted = LogFilter(node=step)
        if follow:
            lines = follow_log(home.folder, found.id, _Following(home, found, wanted), wanted)
        else:
            lines = read_log(home.folder, found.id, wanted)
        look = stdout_look(cut=False)
        nothing = True
        for line in lines:
            if line.stream == "progress" and not (follow or as_json):
                continue
            nothing = False
            named = step is None or line.attempt.run_id != found.id
            sys.stdout.write(_json(line) if as_json else _text(line, look, named=named, run_id=found.id))
            if follow:
                sys.stdout.flush()
        if not as_json:
            found = home.runs.get(found.id)
            if not _write_tracebacks(found, step, look) and nothing:
                click.echo(_silence(found, step), err=True)


def _text(line: LogLine, look: Look, *, named: bool, run_id: str) -> str:
    at = dt.datetime.fromtimestamp(line.at, dt.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    label = f" {clip(line.attempt.node, LABEL_CELLS, look.dots)}" if named else ""
    if line.attempt.run_id != run_id:
        label += f" of run {short_id(line.attempt.run_id)}"
    attempt = f"#{line.attempt.number}" if line.attempt.number > 1 else ""
    style = "dim" if line.stream == "progress" else ""
    return look.text([(f"{at}{label}{attempt} {look.rule} ", "dim"), (line.text, style)]) + "\n"


def _json(line: LogLine) -> str:
    record = {
        "at": iso(line.at),
        "run": line.attempt.run_id,
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


class _Following:
    """What is to be followed of a run, without asking the ledger ten times a second.

    While a step waits for another run (or another step of its own) to compute the same, that one's lines are its.
    """

    def __init__(self, home: Workspace, run: Run, wanted: LogFilter) -> None:
        self._home = home
        self._run_id = run.id
        self._wanted = wanted
        self._ask_at = 0.0
        self._now = Followed(over=run.status.ended)
        self._told: set[str] = set()

    def __call__(self) -> Followed:
        """Return what is to be followed now."""
        if not self._now.over and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _ASK_EVERY_S
            over = self._home.runs.get(self._run_id).status.ended
            self._now = Followed(over, () if over else self._others())
        return self._now

    def _others(self) -> list[tuple[str, str]]:
        others = []
        for node, run_id, computes, host in self._home.runs.history.awaited(self._run_id):
            seen_anyway = run_id == self._run_id and self._wanted.node is None
            if self._wanted.takes_node(node) and not seen_anyway:
                others.append((run_id, computes))
                if run_id not in self._told and not log_file(self._home.folder, run_id).exists():
                    self._told.add(run_id)
                    click.echo(f"{node} waits for run {short_id(run_id)}; its log, if any, is on {host}", err=True)
        return others
