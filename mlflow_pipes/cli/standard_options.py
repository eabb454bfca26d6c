"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_pipes.workspace import Workspace

workspace_option = click.option(
    "--workspace",
    metavar="FOLDER",
    help="Workspace to use.  [default: PIPES_WORKSPACE, pipes.toml, or .pipes beside the project]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output, for scripts.")


def reads_workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--workspace`` and ``--json``."""
    return workspace_option(json_option(command))


def opened(path: str | None) -> Workspace:
    """Return the workspace that ``--workspace`` names, or the one found from here; made when not there."""
    from mlflow_pipes.workspace import Workspace

    return Workspace.open(path)


def existing(path: str | None) -> Workspace:
    """Return the workspace as :func:`opened` does, for commands that only look: those leave no folders behind.

    Raises:
        NotFoundError: there is none.
    """
    from mlflow_pipes.workspace import Workspace
    from mlflow_pipes.workspace.configuration import load
    from mlflow_pipes.workspace.ledger.place import is_workspace

    configuration = load(workspace=path)
    if configuration.ledger is None and not is_workspace(configuration.workspace):
        raise NotFoundError(
            f"no workspace at {configuration.workspace}: nothing has run there; `pipes run FILE` makes one, "
            "--workspace FOLDER names another"
        )
    return Workspace.open(configuration=configuration)
