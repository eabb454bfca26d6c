"""Sheets as rows of MLflow's own tables, written in bulk; every statement may run twice.

The tables are those of ``mlflow.store.tracking.dbmodels.models`` at the revisions named in ``embedded_schema``.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.tracking.names import clean_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from mlflow_pipes.tracking.sheet import Point, Sheet

_MODEL_STATUS = {"PENDING": 1, "READY": 2, "FAILED": 3}

# Order matters: rows before those that refer to them. A run that was deleted in the UI stays deleted.
_STATEMENTS: Mapping[str, str] = {
    "runs": """
        INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
                          end_time, deleted_time, source_version, lifecycle_stage, artifact_uri, experiment_id)
        VALUES (?, ?, 'LOCAL', ?, '', ?, ?, ?, ?, NULL, '', 'active', ?, ?)
        ON CONFLICT (run_uuid) DO UPDATE SET name = excluded.name, source_name = excluded.source_name,
            user_id = excluded.user_id, status = excluded.status, start_time = excluded.start_time,
            end_time = excluded.end_time""",
    "tags": """
        INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)
        ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value""",
    "params": """
        INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)
        ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value""",
    "metrics": """
        INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO NOTHING""",
    "latest_metrics": """
        INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp,
            step = excluded.step, is_nan = excluded.is_nan""",
    "datasets": """
        INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source,
                              dataset_schema, dataset_profile)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
    # Somebody else may have logged the dataset to this experiment before, under an id of his own.
    "dataset_inputs": """
        INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step)
        SELECT ?, 'DATASET', dataset_uuid, 'RUN', ?, 0 FROM datasets
        WHERE experiment_id = ? AND name = ? AND digest = ? ON CONFLICT DO NOTHING""",
    "input_tags": """
        INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING""",
    "models": """
        INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms,
                                   last_updated_timestamp_ms, status, lifecycle_stage, model_type, source_run_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, 'active', ?, ?)
        ON CONFLICT (model_id) DO UPDATE SET last_updated_timestamp_ms = excluded.last_updated_timestamp_ms,
            status = excluded.status""",
    "model_params": """
        INSERT INTO logged_model_params (model_id, experiment_id, param_key, param_value) VALUES (?, ?, ?, ?)
        ON CONFLICT DO NOTHING""",
    "model_tags": """
        INSERT INTO logged_model_tags (model_id, experiment_id, tag_key, tag_value) VALUES (?, ?, ?, ?)
        ON CONFLICT (model_id, tag_key) DO UPDATE SET tag_value = excluded.tag_value""",
    "model_metrics": """
        INSERT INTO logged_model_metrics (model_id, metric_name, metric_timestamp_ms, metric_step, metric_value,
                                          experiment_id, run_id, dataset_uuid, dataset_name, dataset_digest)
        VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?) ON CONFLICT DO NOTHING""",
    "model_links": """
        INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run lies in MLflow: its experiment and the URI below which that keeps artifacts."""

    experiment_id: int
    artifact_root: str

    def run_artifacts(self, run_id: str) -> str:
        """Return the artifact URI of a run, laid out as MLflow does."""
        return f"{self.artifact_root}/{run_id}/artifacts"

    def model_artifacts(self, model_id: str) -> str:
        """Return the artifact URI of a logged model, laid out as MLflow does."""
        return f"{self.artifact_root}/models/{model_id}/artifacts"


@dataclass(slots=True)
class Rows:
    """Rows to write, by statement."""

    by_statement: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {name: [] for name in _STATEMENTS})

    def write(self, connection: sqlite3.Connection) -> None:
        """Write them all; the caller's transaction makes it one change."""
        for name, statement in _STATEMENTS.items():
            if self.by_statement[name]:
                connection.executemany(statement, self.by_statement[name])

    def add(self, sheet: Sheet, place: Place, now_ms: int) -> None:
        """Add a run with all that belongs to it."""
        rows, run_id = self.by_statement, sheet.run_id
        started_ms = now_ms if sheet.started_ms is None else sheet.started_ms
        rows["runs"].append(
            (run_id, sheet.name, sheet.source_name[:500], sheet.user[:256], sheet.status, started_ms, sheet.ended_ms,
             place.run_artifacts(run_id), place.experiment_id)
        )  # fmt: skip
        tags = {**sheet.tags, "mlflow.runName": sheet.name}
        if sheet.parent_id:
            tags["mlflow.parentRunId"] = sheet.parent_id
        rows["tags"] += [(key, value, run_id) for key, value in tags.items()]
        rows["params"] += [(key, value, run_id) for key, value in sheet.params.items()]
        stored = [(point, *stored_number(point.value)) for point in sheet.points]
        rows["metrics"] += [
            (point.key, value, point.timestamp_ms, run_id, point.step, is_nan) for point, value, is_nan in stored
        ]
        newest: dict[str, tuple[Point, float, bool]] = {entry[0].key: entry for entry in stored}  # the last one counts
        rows["latest_metrics"] += [
            (point.key, value, point.timestamp_ms, point.step, is_nan, run_id)
            for point, value, is_nan in newest.values()
        ]
        self._add_links(sheet, place)
        for model in sheet.models:
            self._add_model(model, sheet, place)

    def _add_links(self, sheet: Sheet, place: Place) -> None:
        rows, run_id, experiment_id = self.by_statement, sheet.run_id, place.experiment_id
        for logged in sheet.datasets:
            dataset = logged["dataset"]
            name, digest = dataset["name"], dataset["digest"]
            rows["datasets"].append(
                (_id("dataset", str(experiment_id), name, digest), experiment_id, name, digest,
                 dataset["source_type"], dataset["source"], dataset["schema"], dataset["profile"])
            )  # fmt: skip
            input_id = _id("input", run_id, name, digest)
            rows["dataset_inputs"].append((input_id, run_id, experiment_id, name, digest))
            rows["input_tags"] += [(input_id, key[:255], value[:500]) for key, value in logged["tags"].items()]
        rows["model_links"] += [
            (_id("model-input", run_id, model_id), "RUN_INPUT", run_id, "MODEL_INPUT", model_id, 0)
            for model_id in sheet.model_inputs
        ]
        rows["model_links"] += [
            (_id("model-output", run_id, model_id), "RUN_OUTPUT", run_id, "MODEL_OUTPUT", model_id, step)
            for model_id, step in sheet.model_outputs
        ]

    def _add_model(self, model: Mapping[str, Any], sheet: Sheet, place: Place) -> None:
        rows, model_id, experiment_id = self.by_statement, model["model_id"], place.experiment_id
        run_id = model["run_id"] or sheet.run_id
        rows["models"].append(
            (model_id, experiment_id, model["name"][:500], place.model_artifacts(model_id), model["created_ms"],
             model["updated_ms"], _MODEL_STATUS.get(model["status"], 0), model["model_type"], run_id)
        )  # fmt: skip
        rows["model_params"] += _texts(model_id, experiment_id, model["params"])
        rows["model_tags"] += _texts(model_id, experiment_id, model["tags"])
        rows["model_metrics"] += [
            (model_id, clean_key(key), at, step, stored_number(value)[0], experiment_id, of_run, dataset, digest)
            for key, value, step, at, of_run, dataset, digest in model["metrics"]
        ]


def stored_number(value: float) -> tuple[float, bool]:
    """Return a metric's value as MLflow's SQL store keeps it, and whether it is NaN (``sqlalchemy_store``, 3.17)."""
    if math.isnan(value):
        return 0.0, True
    if math.isinf(value):
        return math.copysign(1.7976931348623157e308, value), False
    return value, False


def _texts(model_id: str, experiment_id: int, texts: Mapping[str, str]) -> Iterable[tuple[str, int, str, str]]:
    return [(model_id, experiment_id, key[:255], str(value)) for key, value in texts.items()]


def _id(*parts: str) -> str:
    """Return an id that comes out the same on every delivery."""
    return digest_record("pipes.mlflow-row/1", parts)[:32]
