"""What a run holds besides numbers and texts, through MLflow's client: files, datasets and logged models."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.tracking.files import walk
from mlflow_pipes.tracking.names import clean_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.tracking.files import LaidOut
    from mlflow_pipes.tracking.sheet import Sheet

_logger = logging.getLogger(__name__)

_OUR_ID = "pipes.model_id"


def fingerprint(sheet: Sheet) -> str:
    """Return a digest of the files and models of a run; empty when it has none."""
    if not sheet.files and not sheet.models:
        return ""
    files = sheet.files
    return digest_record(
        "pipes.uploaded/1",
        (
            files.tree.identity if files.tree else None,
            files.subfolder,
            tuple(f"{path}\0{text}" for path, text in sorted(files.texts.items())),
            tuple(f"{path}\0{figure.identity}" for path, figure in sorted(files.figures.items())),
            tuple(model["model_id"] for model in sheet.models),
        ),
    )[:16]


def upload(client: Any, sheet: Sheet, run_id: str, experiment_id: str, files: LaidOut) -> None:
    """Upload a run's files and its logged models; doing it again changes nothing."""
    for path, file in files.of_run(sheet.files) if sheet.files else ():
        folder = str(PurePosixPath(path).parent)
        client.log_artifact(run_id, str(file), None if folder == "." else folder)
    for model in sheet.models:
        source = files.of_model(sheet.files, model["model_id"])
        _upload_model(client, model, sheet, run_id, experiment_id, source)


def log_datasets(client: Any, sheet: Sheet, run_id: str) -> None:
    """Log the run's dataset inputs; those that it has stay as they are."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client.log_inputs(
        run_id,
        [
            DatasetInput(Dataset(**logged["dataset"]), [InputTag(key, value) for key, value in logged["tags"].items()])
            for logged in sheet.datasets
        ],
    )


def _upload_model(
    client: Any, model: Mapping[str, Any], sheet: Sheet, run_id: str, experiment_id: str, source: Path | None
) -> None:  # fmt: skip
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.exceptions import MlflowException

    try:
        there = _find_or_create(client, model, run_id, experiment_id)
    except (MlflowException, NotImplementedError) as error:
        if getattr(error, "error_code", "") not in {"", "ENDPOINT_NOT_FOUND", "NOT_FOUND", "NOT_IMPLEMENTED"}:
            raise
        # A server from before MLflow 3 has no logged models: there a model is a folder of its run.
        if source is not None:
            client.log_artifacts(run_id, str(source), clean_key(model["name"]))
        return
    if source is not None:
        with tempfile.TemporaryDirectory(prefix="pipes-model-") as scratch:
            renamed = _with_ids(source, Path(scratch) / "model", {model["model_id"]: there, sheet.run_id: run_id})
            client.log_model_artifacts(there, str(renamed))
    metrics = [
        Metric(clean_key(key), value, at, step, model_id=there, dataset_name=dataset, dataset_digest=digest)
        for key, value, step, at, of_run, dataset, digest in model["metrics"]
        if of_run == sheet.run_id
    ]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics[start : start + 1000])
    if model["status"] in {"READY", "FAILED"}:
        client.finalize_logged_model(there, model["status"])
    steps = [step for model_id, step in sheet.model_outputs if model_id == model["model_id"]]
    if steps:
        client.log_outputs(run_id, [LoggedModelOutput(there, steps[0])])


def _find_or_create(client: Any, model: Mapping[str, Any], run_id: str, experiment_id: str) -> str:
    for found in client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'"):
        if found.tags.get(_OUR_ID) == model["model_id"]:
            return str(found.model_id)
    made = client.create_logged_model(
        experiment_id=experiment_id,
        name=model["name"],
        source_run_id=run_id,
        tags={**model["tags"], _OUR_ID: model["model_id"]},
        params=dict(model["params"]),
        model_type=model["model_type"],
    )
    return str(made.model_id)


def _with_ids(source: Path, target: Path, ids: Mapping[str, str]) -> Path:
    """Return a copy of a model's folder whose ``MLmodel`` names the ids that it has at the destination."""
    for path, file in walk(source):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if Path(path).name == "MLmodel":
            text = file.read_text(encoding="utf-8")
            for captured, there in ids.items():
                text = text.replace(captured, there)
            (target / path).write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(file, target / path)
    return target
