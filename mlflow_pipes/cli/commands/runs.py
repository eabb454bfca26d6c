"""``pipes runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.moments import ago, utc_now
from mlflow_pipes.cli.output import stdout_look, write_json, write_table
from mlflow_pipes.cli.records import run_head
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.look import STATUS_STYLE, Span
from mlflow_pipes.display.words import duration, short_id
from mlflow_pipes.model.run import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.workspace import Run


@click.command("runs", help="List runs, newest first.")
@click.option("--pipeline", metavar="NAME", help="Only runs of this pipeline.")
@click.option("--status", metavar="STATUS", help="Only runs that stand so: running, succeeded, failed, cancelled ...")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most so many."
)
@reads_workspace
def command(*, workspace: str | None, pipeline: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """Write the newest runs."""
    with existing(workspace) as home:
        found = home.runs.list(pipeline=pipeline, status=status, limit=limit)
        counts = home.runs.counts(found)
    if as_json:
        write_json([{**run_head(run), "steps": _counts(counts.get(run.id, {}))} for run in found])
    elif not found:
        click.echo("no runs yet; start one: pipes run FILE" if not (pipeline or status) else "no such runs", err=True)
    else:
        header = ["run", "pipeline", "status", "started", "took", "steps"]
        rows = [_row(run, counts.get(run.id, {})) for run in found]
        if any(run.resumed_from for run in found):
            header.append("resumes")
            rows = [[*row, (short_id(run.resumed_from or ""), "dim")] for row, run in zip(rows, found, strict=True)]
        write_table(header, rows)


def _row(run: Run, counts: Mapping[Status, int]) -> list[Span]:
    took = run.duration_s if run.duration_s is not None else (utc_now() - run.started_at).total_seconds()
    return [
        (short_id(run.id), "bold"),
        (run.pipeline, ""),
        (f"{stdout_look().symbol(run.status)} {run.status.value}", STATUS_STYLE[run.status]),
        (ago(run.started_at, utc_now()), "dim"),
        (duration(took), "" if run.status.ended else "cyan"),
        (", ".join(f"{amount:,} {_WORDS.get(status, status.value)}" for status, amount in _ordered(counts)), ""),
    ]


_WORDS = {Status.SUCCEEDED: "ran"}


def _ordered(counts: Mapping[Status, int]) -> list[tuple[Status, int]]:
    return [(status, counts[status]) for status in Status if counts.get(status)]


def _counts(counts: Mapping[Status, int]) -> dict[str, int]:
    return {status.value: amount for status, amount in _ordered(counts)}
