"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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
    """Return the workspace that ``--workspace`` names, or the one found from the working folder."""
    from mlflow_pipes.workspace import Workspace

    return Workspace.open(path)
