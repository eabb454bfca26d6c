"""The entry point by which MLflow finds the capture store. MLflow loads it in the middle of its own import."""

from __future__ import annotations

from typing import Any

_opened: list[Any] = []  # MLflow keeps its last hundred stores; their files must not stay open that long


def capture_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Return the store of a capture URI."""
    from mlflow_pipes.worker.capture.store import CaptureStore

    store = CaptureStore(store_uri, artifact_uri)
    _opened.append(store)
    return store


def flush_stores() -> None:
    """Wait until the open stores have written what MLflow logs in the background."""
    for store in _opened:
        store.flush_async_logging()


def close_stores() -> None:
    """Close the stores opened since the last call: what a thread left behind logs later goes nowhere."""
    while _opened:
        _opened.pop().close()
