"""Registering, from inside a step, a model that the step has just logged.

The model lies in the attempt's folder, which goes when the attempt ends, and the destination learns of it only later.
So its files are first put where they stay: beside the registry's own artifacts. Models of earlier runs are read from
the destination, because the user asks for just that.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow_pipes.worker.capture.environment import DESTINATION
from mlflow_pipes.worker.capture.location import SCHEME, Location

_CLIENT = "mlflow.tracking._model_registry.client"
_PROXY = "mlflow.store.artifact.mlflow_artifacts_repo"
_REGISTERED = "registered"  # folder among the destination's artifacts


def adjust(capturing: Callable[[], Location | None]) -> None:
    """Adjust a loaded MLflow; *capturing* gives the capture that is going on, or None."""
    client = sys.modules[_CLIENT].ModelRegistryClient
    create_before = client.create_model_version

    @functools.wraps(create_before)
    def create_model_version(self: Any, name: str, source: str, *args: Any, **kwargs: Any) -> Any:
        location = capturing()
        folder = captured_folder(source, location) if location is not None else None
        if location is not None and folder is not None:
            source = keep(folder, self.registry_uri, location)
        return create_before(self, name, source, *args, **kwargs)

    client.create_model_version = create_model_version
    if _PROXY in sys.modules:
        _adjust_proxy(sys.modules[_PROXY].MlflowArtifactsRepository)


def _adjust_proxy(repository: Any) -> None:
    """Let ``mlflow-artifacts:`` URIs, which are relative to the tracking server, mean the real one."""
    resolve_before = repository.resolve_uri.__func__

    @functools.wraps(resolve_before)
    def resolve_uri(cls: Any, artifact_uri: str, tracking_uri: str) -> Any:
        if tracking_uri.startswith(f"{SCHEME}:"):
            tracking_uri = os.environ.get(DESTINATION) or os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri
        return resolve_before(cls, artifact_uri, tracking_uri)

    repository.resolve_uri = classmethod(resolve_uri)


def captured_folder(source: str, location: Location) -> Path | None:
    """Return the folder of this attempt that a model's *source* means; None when it lies elsewhere.

    >>> captured_folder("models:/m-1", Location("a" * 32, "train", Path("/scratch"))).as_posix()
    '/scratch/artifacts/.mlflow/models/m-1'
    """
    parts = urlsplit(source)
    if parts.scheme == "models":
        model_id = parts.path.strip("/")
        folder = location.model_artifacts(model_id)
        return folder if model_id.startswith("m-") and "/" not in model_id else None
    if parts.scheme == "runs":
        run_id, _, path = parts.path.strip("/").partition("/")
        return location.run_artifacts(run_id) / path if run_id == location.run_id else None
    if parts.scheme in {"", "file"}:
        folder = Path(unquote(parts.path))
        return folder if folder.is_relative_to(location.artifacts) else None
    return None


def keep(folder: Path, registry_uri: str, location: Location) -> str:
    """Copy a model's files to where they stay, and return their URI. Done twice it is the same place."""
    if not folder.is_dir():
        return folder.as_uri()  # not there: MLflow's own error is the right one
    place = f"{_REGISTERED}/{location.run_id}/{folder.name}"
    if registry_uri.startswith(("http://", "https://")):
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = f"mlflow-artifacts:/{place}"
        get_artifact_repository(uri, tracking_uri=registry_uri).log_artifacts(str(folder))
        return uri
    if registry_uri.startswith("sqlite:///"):
        root = Path(registry_uri.removeprefix("sqlite:///")).absolute().parent / "artifacts"
        shutil.copytree(folder, root / place, dirs_exist_ok=True)
        return (root / place).as_uri()
    from mlflow.exceptions import MlflowException

    raise MlflowException(
        f"A model that a step has just logged cannot be registered from inside it at {urlsplit(registry_uri).scheme}: "
        "return the model from the step, and register it with mlflow_pipes_steps.register_model"
    )
