"""From an attempt's journal and files to the record of what it logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mlflow_pipes import content
from mlflow_pipes.errors import InternalError
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.worker.capture.journal import Logged, LoggedModelState, LoggedRun, replay

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.worker.capture.location import Location

_logger = logging.getLogger(__name__)

# Tags that MLflow's client sets on every run by itself; the publisher sets them from what the pipeline knows.
_AUTOMATIC_TAGS = frozenset(
    {"mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit", "mlflow.parentRunId"}
)


def harvest(location: Location, datastore: Datastore) -> Tracked:
    """Return what was logged. The files are stored as one tree: the run's own at its root, others below ``.mlflow``."""
    logged = replay(location.journal)
    if logged.dropped_traces:
        _logger.warning("%d MLflow trace(s) of this step were not kept: traces are not supported inside steps",
                        logged.dropped_traces)  # fmt: skip
    artifacts = _store(location.artifacts, datastore)
    own = logged.runs.get(location.run_id) or LoggedRun(location.run_id)
    tags = user_tags(own.tags)
    if own.name and own.name != location.run_name:
        tags["pipes.logged_run_name"] = own.name
    return Tracked(
        metrics=tuple([Metric(key, number=value, step=step, timestamp_ms=at) for key, value, step, at in own.points]),
        params=own.params,
        tags=tags,
        artifacts=artifacts,
        nested=tuple(nested_record(run) for run in logged.runs.values() if run is not own and not run.deleted),
        extra=_extra(own, logged),
    )


def _store(folder: Path, datastore: Datastore) -> Leaf | None:
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        return None
    artifact = content.store(folder, datastore, name="files logged with MLflow")
    if not isinstance(artifact, Leaf):
        raise InternalError(f"a folder was stored as a {type(artifact).__name__}")
    return artifact


def user_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags without those that MLflow's client adds by itself."""
    return {key: value for key, value in tags.items() if key not in _AUTOMATIC_TAGS}


def nested_record(run: LoggedRun) -> dict[str, Any]:
    """Return a run that the step started below its own, as JSON-like data."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "parent_id": run.parent_id,
        "status": run.status,
        "started_ms": run.started_ms,
        "ended_ms": run.ended_ms,
        "metrics": [list(point) for point in run.points],
        "params": run.params,
        "tags": user_tags(run.tags),
        **_links(run),
    }


def _links(run: LoggedRun) -> dict[str, Any]:
    """Return what a run took in and gave out, leaving out what is empty."""
    links = {
        "datasets": run.datasets,
        "model_inputs": run.model_inputs,
        "model_outputs": [[model_id, step] for model_id, step in run.model_outputs.items()],
    }
    return {name: value for name, value in links.items() if value}


def _extra(own: LoggedRun, logged: Logged) -> dict[str, Any]:
    extra = _links(own)
    models = [model_record(model) for model in logged.models.values() if not model.deleted]
    if models:
        extra["models"] = models
    return extra


def model_record(model: LoggedModelState) -> dict[str, Any]:
    """Return a logged model as JSON-like data."""
    return {
        "model_id": model.model_id,
        "name": model.name,
        "run_id": model.run_id,
        "model_type": model.model_type,
        "status": model.status,
        "created_ms": model.created_ms,
        "updated_ms": model.updated_ms,
        "tags": model.tags,
        "params": model.params,
        "metrics": [list(point) for point in model.points],
    }
