"""How MLflow behaves in our processes: no telemetry, no waiting for a server that is away."""

from __future__ import annotations

import os

# A server that does not answer is noticed within seconds; the publisher tries again by its own pace.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # where the user's own choice is a folder of files
    "GIT_PYTHON_REFRESH": "quiet",
}
# What would make our client write somewhere else than where it is told.
_REMOVED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ACTIVE_MODEL_ID")


def settle() -> None:
    """Set MLflow's environment variables for a process of ours; call before MLflow is imported."""
    os.environ.update(_SETTINGS)
    for name in _REMOVED:
        os.environ.pop(name, None)
