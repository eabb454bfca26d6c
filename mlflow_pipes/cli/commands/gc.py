"""``pipes gc``."""

from __future__ import annotations

import click

from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.words import count, size


@click.command("gc", help="Delete stored outputs, logs and files that no kept run or cache entry needs any more.")
@click.option("--dry-run", is_flag=True, help="Delete nothing, only tell.")
@click.option(
    "--keep-days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Keep what runs of so many days need.",
)
@click.option(
    "--keep-runs",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Keep what the newest N runs of each pipeline need, whatever their age.",
)
@reads_workspace
def command(*, workspace: str | None, dry_run: bool, keep_days: float, keep_runs: int, as_json: bool) -> None:
    """Collect garbage."""
    from mlflow_pipes.workspace.gc import collect

    with existing(workspace) as home:
        report = collect(home, keep_days=keep_days, keep_runs=keep_runs, dry_run=dry_run)
    if as_json:
        write_json(report)
        return
    verb = "would free" if dry_run else "freed"
    click.echo(
        f"{verb} {size(report.freed_bytes)}: {count(report.blobs, 'blob')}, {count(report.logs, 'log')}, "
        f"{count(report.folders, 'folder')}; {count(report.entries, 'step')} will be computed anew when asked for"
    )
    click.echo(f"kept {size(report.kept_bytes)}, {count(report.kept_runs, 'run')}")
