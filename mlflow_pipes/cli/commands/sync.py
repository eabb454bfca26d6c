"""``pipes sync``."""

from __future__ import annotations

import click

from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.words import count


@click.command("sync", help="Deliver to MLflow, now, what it has not been told yet.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for a publisher that is at work in the background.",
)
@reads_workspace
def command(*, workspace: str | None, timeout_s: float, as_json: bool) -> None:
    """Deliver the outbox in this process."""
    from mlflow_pipes.tracking.quiet import settle
    from mlflow_pipes.workspace.publishing import own_uri, sync

    settle()
    with existing(workspace) as home:
        uri = home.configuration.tracking_uri
        delivered = sync(home.folder, uri, ledger=home.configuration.ledger, wait_s=timeout_s)
        where = shown_uri(uri or own_uri(home.folder))
    if as_json:
        write_json({"delivered": delivered, "destination": where})
    elif delivered:
        click.echo(f"delivered {count(delivered, 'change')} of runs to {where}")
    else:
        click.echo(f"nothing to deliver: {where} knows everything")


def shown_uri(uri: str) -> str:
    """Return a tracking URI without the password that may be in it."""
    from mlflow_pipes.credentials import without_credentials

    return without_credentials(uri)
