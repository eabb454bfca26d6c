"""``pipes ui``."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.commands.sync import shown_uri
from mlflow_pipes.cli.output import write_json
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.errors import TrackingError

if TYPE_CHECKING:
    from types import FrameType

    from mlflow_pipes.workspace import Workspace


@click.command("ui", help="Open the MLflow UI on the workspace; Ctrl-C stops it.")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N", help="Where to listen.  [default: 5000 or a free one]"
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--sync/--no-sync", "synced", default=True, show_default=True, help="First deliver what MLflow lacks.")
@reads_workspace
def command(*, workspace: str | None, port: int | None, host: str, synced: bool, as_json: bool) -> None:
    """Serve the UI until interrupted; where the history is on the user's server, tell its address."""
    from mlflow_pipes.cli import mlflow_ui
    from mlflow_pipes.workspace.publishing import own_uri

    with existing(workspace) as home:
        uri = home.configuration.tracking_uri or own_uri(home.folder)
        if uri.startswith(("http://", "https://", "databricks")):
            _sync(home, wanted=synced)
            _tell(shown_uri(uri), "this workspace publishes to your MLflow server", as_json=as_json)
            return
        mlflow_ui.check_installed()
        chosen = mlflow_ui.chosen_port(host, port)
        _sync(home, wanted=synced)
        log = home.folder / "ui.log"
        artifacts = home.folder / "mlflow" / "artifacts"
        artifacts.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, _interrupt)
        with mlflow_ui.MlflowUi(uri, artifacts, host=host, port=chosen, log=log) as server:
            click.echo("the MLflow UI is starting ...", err=True)  # MLflow takes 5 to 20 s
            server.wait_until_it_answers()
            _tell(server.url, "Ctrl-C stops it", as_json=as_json)
            try:
                server.wait()
            except KeyboardInterrupt:
                click.echo("stopped", err=True)


def _sync(home: Workspace, *, wanted: bool) -> None:
    if not wanted:
        return
    from mlflow_pipes.tracking.quiet import settle
    from mlflow_pipes.workspace.publishing import sync

    settle()
    try:
        sync(home.folder, home.configuration.tracking_uri, ledger=home.configuration.ledger)
    except TrackingError as error:
        click.echo(f"warning: not everything is delivered: {error}", err=True)


def _tell(url: str, note: str, *, as_json: bool) -> None:
    if as_json:
        write_json({"url": url})
    else:
        click.echo(f"MLflow UI: {url}   ({note})")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
