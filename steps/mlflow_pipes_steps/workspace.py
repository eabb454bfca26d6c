"""Where the running step's workspace is."""

from __future__ import annotations

from pathlib import Path

from mlflow_pipes import current_run


def workspace_folder() -> Path:
    """Return the folder of the workspace that the step runs in; outside a run of the one found from here."""
    folder = current_run().workspace
    if folder:
        return Path(folder)
    from mlflow_pipes import Workspace  # needs the database's packages

    return Workspace.open().folder
