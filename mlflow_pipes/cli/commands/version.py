"""``pipes version``."""

from __future__ import annotations

import platform

import click

from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.standard_options import json_option


def own_version() -> str:
    """Return the version of mlflow_pipes."""
    from mlflow_pipes import __version__

    return __version__


@click.command("version", help="Show the version.")
@json_option
def command(*, as_json: bool) -> None:
    """Write the version of mlflow_pipes and of Python."""
    if as_json:
        write_json({"mlflow_pipes": own_version(), "python": platform.python_version()})
    else:
        click.echo(f"pipes {own_version()} (Python {platform.python_version()})")
