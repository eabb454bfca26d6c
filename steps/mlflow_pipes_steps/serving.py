"""Serve a registered model as a web service, and ask it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_pipes import current_run, step
from mlflow_pipes.lifecycle import ModelRegistry, ModelVersion, ServiceRegistry, plain
from mlflow_pipes_steps.workspace import workspace_folder


class Deployment(NamedTuple):
    """A web service that serves a model.

    Attributes:
        name: of the service; ``pipes services`` knows it by that.
        url: where it answers; predictions at ``/invocations``, in MLflow's scoring protocol.
        version: of the model.
        model_digest: identity of the model's files.
    """

    name: str
    url: str
    version: str
    model_digest: str


@step(reuse="never")
def deploy_web_service(
    model: ModelVersion,
    name: str,
    port: int = 0,
    tags: Mapping[str, str] | None = None,
    start_timeout_s: float = 120.0,
) -> Deployment:
    """Return a healthy web service on this machine's loopback that serves the model.

    Runs every time, since services may die: where the model is served already it only checks health (milliseconds).
    The service outlives the run. A replaced model's process serves until the new one is healthy.

    Args:
        model: the registered version to serve.
        name: of the service.
        port: where to listen; 0 keeps the service's port or takes a free one.
        tags: free labels of the service.
        start_timeout_s: how long a new process may take until it is healthy.

    Raises:
        NotFoundError: the model's files are not in the registry any more.
        ServiceError: the service did not become healthy; the message ends with its log.
    """
    folder = workspace_folder()
    service = ServiceRegistry.of_workspace(folder).deploy(
        name, lambda: ModelRegistry.of_workspace(folder).files(model), version=model.version,
        model_digest=model.digest or model.uri, port=port, tags=tags, start_timeout_s=start_timeout_s,
    )  # fmt: skip
    current_run().log("deployed", "started" if service.is_new else "already served, healthy")
    current_run().log("url", service.url)
    return Deployment(service.name, service.url, service.version, service.model_digest)


@step(reuse="never")
def call_web_service(service: Deployment, rows: Any) -> list[Any]:
    """Return the service's prediction for each row.

    Args:
        service: whom to ask.
        rows: a list of dicts by column name, or a data frame.

    Raises:
        ArgumentError: the service refused the rows; the message names the column.
        ServiceError: it does not answer, or failed.
    """
    return ServiceRegistry.of_workspace(workspace_folder()).call(service.name, rows)


@step
def predict(model: ModelVersion, rows: Any) -> list[Any]:
    """Return the registered model's own prediction for each row, computed here, as its service would tell it.

    Args:
        model: whom to ask.
        rows: a list of dicts by column name, or a data frame.

    Raises:
        NotFoundError: the model's files are not in the registry any more.
    """
    import mlflow.pyfunc
    import pandas as pd

    folder = ModelRegistry.of_workspace(workspace_folder()).files(model)
    predictions = plain(mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame(rows)))
    return predictions if isinstance(predictions, list) else [predictions]
