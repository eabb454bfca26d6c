"""What a journal says, as the entities that MLflow's client expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    InputTag,
    LifecycleStage,
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)

from mlflow_pipes.worker.capture.location import EXPERIMENT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.worker.capture.journal import LoggedModelState, LoggedRun
    from mlflow_pipes.worker.capture.location import Location


def experiment(name: str, location: Location, tags: Mapping[str, str]) -> Experiment:
    """Return the one experiment that a step sees, under the name it asked for."""
    return Experiment(
        experiment_id=EXPERIMENT_ID,
        name=name,
        artifact_location=location.artifacts.as_uri(),
        lifecycle_stage=LifecycleStage.ACTIVE,
        tags=[ExperimentTag(key, value) for key, value in tags.items()],
    )


def run(logged: LoggedRun, location: Location) -> Run:
    """Return a run with its latest metrics, inputs and outputs."""
    info = RunInfo(
        run_id=logged.run_id,
        experiment_id=EXPERIMENT_ID,
        user_id="",
        status=logged.status,
        start_time=logged.started_ms,
        end_time=logged.ended_ms,
        lifecycle_stage=LifecycleStage.DELETED if logged.deleted else LifecycleStage.ACTIVE,
        artifact_uri=location.run_artifacts(logged.run_id).as_uri(),
        run_name=logged.name,
    )
    tags = {**logged.tags, "mlflow.runName": logged.name}
    if logged.parent_id:
        tags["mlflow.parentRunId"] = logged.parent_id
    data = RunData(
        metrics=[Metric(key, value, timestamp_ms, step) for key, value, step, timestamp_ms in logged.latest.values()],
        params=[Param(key, value) for key, value in logged.params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    inputs = RunInputs(
        dataset_inputs=[dataset_input(record) for record in logged.datasets],
        model_inputs=[LoggedModelInput(model_id) for model_id in logged.model_inputs],
    )
    outputs = RunOutputs([LoggedModelOutput(model_id, step) for model_id, step in logged.model_outputs.items()])
    return Run(info, data, inputs, outputs)


def dataset_record(dataset: Dataset) -> dict[str, Any]:
    """Return a dataset as plain data."""
    names = ("name", "digest", "source_type", "source", "schema", "profile")
    return {name: getattr(dataset, name) for name in names}


def dataset_input(record: Mapping[str, Any]) -> DatasetInput:
    """Read what the journal holds of a logged dataset."""
    tags = [InputTag(key, value) for key, value in record["tags"].items()]
    return DatasetInput(dataset=Dataset(**record["dataset"]), tags=tags)


def logged_model(model: LoggedModelState, location: Location) -> LoggedModel:
    """Return a logged model."""
    return LoggedModel(
        experiment_id=EXPERIMENT_ID,
        model_id=model.model_id,
        name=model.name,
        artifact_location=location.model_artifacts(model.model_id).as_uri(),
        creation_timestamp=model.created_ms,
        last_updated_timestamp=model.updated_ms,
        model_type=model.model_type,
        source_run_id=model.run_id,
        status=LoggedModelStatus(model.status),
        tags=[LoggedModelTag(key, value) for key, value in model.tags.items()],
        params=[LoggedModelParameter(key, value) for key, value in model.params.items()],
        metrics=[
            Metric(key, value, timestamp_ms, step, model.model_id, dataset_name, dataset_digest, run_id)
            for key, value, step, timestamp_ms, run_id, dataset_name, dataset_digest in model.points
        ],
    )
