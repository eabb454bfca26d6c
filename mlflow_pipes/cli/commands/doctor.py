"""``pipes doctor``."""

from __future__ import annotations

import click

from mlflow_pipes.cli.checks import Check, machine_checks, workspace_checks
from mlflow_pipes.cli.output import stdout_look, write_json, write_lines
from mlflow_pipes.cli.standard_options import opened, reads_workspace
from mlflow_pipes.errors import LedgerError, PipesError, WorldError

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command("doctor", help="Check that everything pipes needs is in order. Ends with 75 when something fails.")
@reads_workspace
def command(*, workspace: str | None, as_json: bool) -> int:
    """Write a line a check; return the exit code."""
    checks = list(machine_checks())
    try:
        with opened(workspace) as home:
            checks += workspace_checks(home)
    except PipesError as error:
        checks.append(
            Check("ledger" if isinstance(error, LedgerError) else "workspace", "fail", str(error), "see above")
        )
    if as_json:
        write_json(checks)
    else:
        _write(checks)
    return WorldError.exit_code if any(check.verdict == "fail" for check in checks) else 0


def _write(checks: list[Check]) -> None:
    marks = {"ok": "✓", "warn": "!", "fail": "✗"} if stdout_look().unicode else {"ok": "+", "warn": "!", "fail": "x"}
    for check in checks:
        style = _STYLE[check.verdict]
        write_lines(
            [[(f"{marks[check.verdict]} {check.verdict:<4} ", style), (f"{check.name}: ", "bold"), (check.text, "")]]
        )
        if check.remedy:
            write_lines([[("         ", ""), (check.remedy, style)]])
