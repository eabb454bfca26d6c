"""``pipes services``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from mlflow_pipes.cli.moments import ago, utc_now
from mlflow_pipes.cli.output import iso, write_json, write_table
from mlflow_pipes.cli.standard_options import existing, reads_workspace, workspace_option
from mlflow_pipes.display.look import Span

if TYPE_CHECKING:
    from mlflow_pipes.lifecycle.services import Service

_STYLE = {"running": "green", "unhealthy": "yellow", "dead": "red", "stopped": "dim"}


@click.group(
    "services",
    help="List, call, read and stop deployed services.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List them when nothing else is asked for."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_services, workspace=None, as_json=False)


@command.command("list", help="List the services of the workspace, as they stand now.")
@reads_workspace
def list_services(*, workspace: str | None, as_json: bool) -> None:
    """Write all services."""
    with existing(workspace) as home:
        services = home.services.list()
    if as_json:
        write_json([service_record(service) for service in services])
    elif not services:
        click.echo("no services; a step deploys one: mlflow_pipes_steps.deploy_web_service", err=True)
    else:
        write_table(["service", "status", "address", "model version", "since"], [_row(one) for one in services])


@command.command(
    "call",
    help="Ask a service for predictions of rows: a JSON list of objects, from a file or '-'.",
    short_help="Ask a service for predictions.",
)
@click.argument("name")
@click.argument("rows", type=click.File("r"), metavar="ROWS.json|-")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, metavar="SECONDS")
@workspace_option
def call(*, name: str, rows: TextIO, timeout_s: float, workspace: str | None) -> None:
    """Write the predictions as JSON."""
    asked = parsed_rows(rows.read())
    with existing(workspace) as home:
        write_json(home.services.call(name, asked, timeout_s=timeout_s))


@command.command("logs", help="Show what a service wrote.")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the service ends.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N lines.")
@workspace_option
def logs(*, name: str, follow: bool, last: int | None, workspace: str | None) -> None:
    """Write a service's log."""
    with existing(workspace) as home:
        for line in home.services.logs(name, follow=follow, last=last):
            sys.stdout.write(line.rstrip("\n") + "\n")
            if follow:
                sys.stdout.flush()


@command.command("stop", help="Stop a service; its address and model stay known.")
@click.argument("name")
@reads_workspace
def stop(*, name: str, workspace: str | None, as_json: bool) -> None:
    """Stop a service."""
    with existing(workspace) as home:
        stopped = home.services.stop(name)
    if as_json:
        write_json(service_record(stopped))
    else:
        click.echo(f"service {name} is stopped")


def parsed_rows(text: str) -> Any:
    """Return the rows that a JSON text holds: a list, or one object.

    Raises:
        click.BadParameter: it is not JSON, or neither of these.
    """
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="ROWS") from None
    if isinstance(rows, dict):
        return [rows]
    if not isinstance(rows, list):
        raise click.BadParameter("it must be a JSON list of rows, or one row as an object", param_hint="ROWS")
    return rows


def service_record(service: Service) -> dict[str, Any]:
    """Return a service as JSON-like data."""
    return {**asdict(service), "url": service.url, "started_at": iso(service.started_at)}


def _row(service: Service) -> list[Span]:
    import datetime as dt

    since = ago(dt.datetime.fromtimestamp(service.started_at, dt.UTC), utc_now())
    return [
        (service.name, "bold"),
        (service.status, _STYLE[service.status]),
        (service.url, ""),
        (service.version, ""),
        (since, "dim"),
    ]
