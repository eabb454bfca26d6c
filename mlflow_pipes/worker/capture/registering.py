"""Registering, from inside a step, a model that the step has just logged.

The model lies in the attempt's folder, which goes when the attempt ends, and the destination learns of it only later.
So its files are first put where they stay: beside the registry's own artifacts. Models of earlier runs are read from
the destination, because the user asks for just that.
"""

from __future__ import annotations

import functools
import inspect
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
_REGISTERED = "registered"  # folder among the destination's artifacts, and name of the models on a server
_EXPERIMENT = "registered in steps"  # on a server; the pipeline's is the publisher's to make


def adjust(capturing: Callable[[], Location | None]) -> None:
    """Adjust a loaded MLflow; *capturing* gives the capture that is going on, or None."""
    client = sys.modules[_CLIENT].ModelRegistryClient
    create_before = client.create_model_version
    signature = inspect.signature(create_before)

    @functools.wraps(create_before)
    def create_model_version(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        location = capturing()
        folder = captured_folder(given["source"], location) if location is not None else None
        if location is not None and folder is not None and folder.is_dir():
            given.update(keep(folder, given["self"].registry_uri, location))
            given["tags"] = {**(given.get("tags") or {}), "pipes.run_id": location.run_id}
        return create_before(**given)

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


def keep(folder: Path, registry_uri: str, location: Location) -> dict[str, Any]:
    """Copy a model's files to where they stay; return what a model version says of its source then."""
    if registry_uri.startswith(("http://", "https://")):
        # A server takes only sources that are its own, and does not know the step's run yet.
        return {**_upload(folder, registry_uri), "run_id": None}
    if registry_uri.startswith("sqlite:///"):
        root = Path(registry_uri.removeprefix("sqlite:///")).absolute().parent / "artifacts"
        place = root / _REGISTERED / location.run_id / folder.name
        shutil.copytree(folder, place, dirs_exist_ok=True)
        return {"source": place.as_uri()}
    from mlflow.exceptions import MlflowException

    raise MlflowException(
        f"A model that a step has just logged cannot be registered from inside it at {urlsplit(registry_uri).scheme}: "
        "return the model from the step, and register it with mlflow_pipes_steps.register_model"
    )


def _upload(folder: Path, server: str) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server, registry_uri=server)
    known = client.get_experiment_by_name(_EXPERIMENT)
    experiment_id = known.experiment_id if known is not None else client.create_experiment(_EXPERIMENT)
    model = client.create_logged_model(experiment_id, name=_REGISTERED, tags={"pipes.model_id": folder.name})
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    return {"source": f"models:/{model.model_id}", "model_id": model.model_id}
