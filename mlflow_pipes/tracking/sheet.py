"""A run as MLflow is to show it: all that is decided before any MLflow is talked to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, NamedTuple

from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.run import Status
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.tracking.names import TAG_CHARACTERS
from mlflow_pipes.wording import clipped

NOTE = "mlflow.note.content"

# Every status of ours as one of MLflow's five.
MLFLOW_STATUS: Mapping[Status, str] = {
    Status.WAITING: "SCHEDULED",
    Status.LOOKING_UP: "SCHEDULED",
    Status.QUEUED: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.SUCCEEDED: "FINISHED",
    Status.REUSED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.SKIPPED: "KILLED",
    Status.CANCELLED: "KILLED",
    Status.INTERRUPTED: "KILLED",
}


class Point(NamedTuple):
    """One number of a metric's series. *value* may be NaN or infinite."""

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Files:
    """A run's artifacts: a stored tree (or a folder of one), and small files that the publisher makes itself.

    Attributes:
        tree: what the step logged; None when it logged no files.
        subfolder: the run's place in *tree*, empty for its root.
        texts: path -> content.
        figures: path -> PNG.
    """

    tree: Leaf | None = None
    subfolder: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Leaf] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tree or self.texts or self.figures)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One run of MLflow.

    Attributes:
        run_id, parent_id: ours.
        known_as: the id under which the destination already has it, if it does.
        points: per key in the order of step and time, so that a key's last point is its newest.
        datasets, model_inputs, model_outputs, models: as the capture's harvest wrote them.
        reused_from: our id of the run that computed the output.
    """

    run_id: str
    experiment: str
    name: str
    status: str
    root_id: str = ""
    parent_id: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    user: str = ""
    source_name: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    files: Files = Files()
    datasets: tuple[Mapping[str, Any], ...] = ()
    model_inputs: tuple[str, ...] = ()
    model_outputs: tuple[tuple[str, int], ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    reused_from: str | None = None
    known_as: str | None = None


def with_origin(sheet: Sheet, mlflow_run_id: str, experiment_id: str) -> Sheet:
    """Return the sheet of a reused step with a link to the run that computed its output."""
    link = f"Reused: computed by [this run](#/experiments/{experiment_id}/runs/{mlflow_run_id})."
    note = sheet.tags.get(NOTE, "")
    tags = {
        **sheet.tags,
        "pipes.reused_from_mlflow_run_id": mlflow_run_id,
        NOTE: clipped(f"{note}\n\n{link}" if note else link, TAG_CHARACTERS),
    }
    return replace(sheet, tags=tags)
