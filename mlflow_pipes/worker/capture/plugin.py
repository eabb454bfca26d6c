"""The entry point by which MLflow finds the capture store. MLflow loads it in the middle of its own import."""

from __future__ import annotations

from typing import Any


def capture_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Return the store of a capture URI."""
    from mlflow_pipes.worker.capture.store import CaptureStore

    return CaptureStore(store_uri, artifact_uri)
