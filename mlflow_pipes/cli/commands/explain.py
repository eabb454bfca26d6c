"""``pipes explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.changes import change_lines, change_record
from mlflow_pipes.cli.output import write_json, write_lines
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.look import STATUS_STYLE, Line
from mlflow_pipes.display.words import short_id

if TYPE_CHECKING:
    from mlflow_pipes.workspace.planning import Explanation


@click.command("explain", help="Say why a step ran, naming what changed since the last run in which it ended well.")
@click.argument("step")
@click.option("--run", default="latest", show_default=True, metavar="RUN", help="Id, its beginning, or latest.")
@reads_workspace
def command(*, step: str, run: str, workspace: str | None, as_json: bool) -> None:
    """Write why."""
    from mlflow_pipes.workspace.planning import explain

    with existing(workspace) as home:
        explanation = explain(step, run=run, workspace=home)
        if as_json:
            write_json(_record(explanation))
        else:
            write_lines(_lines(explanation))


def _lines(explanation: Explanation) -> list[Line]:
    step = explanation.step
    lines: list[Line] = [
        [
            (step.node, "bold"),
            (f" in run {short_id(step.run_id)} ", "dim"),
            (step.status.value, STATUS_STYLE[step.status]),
            (f": {explanation.reason}", ""),
        ]
    ]
    if explanation.before:
        lines.append([(f"  compared with run {short_id(explanation.before)}:", "dim")])
    return lines + change_lines(explanation.changes)


def _record(explanation: Explanation) -> dict[str, object]:
    step = explanation.step
    return {
        "run": step.run_id,
        "node": step.node,
        "status": step.status.value,
        "reason": explanation.reason,
        "before": explanation.before,
        "changes": [change_record(change) for change in explanation.changes],
    }
