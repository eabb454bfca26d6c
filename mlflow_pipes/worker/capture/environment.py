"""The environment variables by which MLflow, also one imported later or in a subprocess, finds the capture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.worker.capture.location import Location

DESTINATION = "PIPES_MLFLOW_URI"  # where the workspace publishes to; set for workers by the workspace


def wanted(location: Location, environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables to set (None: to remove) for a capture, given those that are there."""
    registry = environ.get("MLFLOW_REGISTRY_URI") or environ.get(DESTINATION) or environ.get("MLFLOW_TRACKING_URI")
    changes: dict[str, str | None] = {
        "MLFLOW_TRACKING_URI": location.uri,
        # Not set: a step that goes to a server of its own would look for our run there.
        "MLFLOW_RUN_ID": None,
        "MLFLOW_EXPERIMENT_ID": None,
        "MLFLOW_EXPERIMENT_NAME": None,
        "MLFLOW_ACTIVE_MODEL_ID": None,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    if registry:
        changes["MLFLOW_REGISTRY_URI"] = registry
    return changes


def enter(location: Location) -> dict[str, str]:
    """Set the variables; return MLflow's variables as they were, for :func:`leave`."""
    before = _mlflow_variables()
    _apply(wanted(location, os.environ))
    return before


def leave(before: Mapping[str, str]) -> None:
    """Put MLflow's variables back as they were, also those that the step itself set."""
    now = _mlflow_variables()
    _apply({name: before.get(name) for name in now.keys() | before.keys() if now.get(name) != before.get(name)})


def _mlflow_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.startswith(("MLFLOW_", "_MLFLOW_"))}


def _apply(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
