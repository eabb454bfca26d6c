"""What the ledger asks the publisher to show in MLflow, and what the publisher answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tracked import Metric
from mlflow_pipes.quick_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publication:
    """One run (of a pipeline, sub-pipeline or step) as it stands now, to be mirrored into MLflow.

    Attributes:
        run_id: ours, 32 hex digits. Where we own the MLflow store it is MLflow's id too.
        revision: grows with every change; a receipt names the revision that was delivered.
        parent_id: run_id of the run it is nested in; None for a pipeline's run.
        root_id: run_id of the pipeline's run.
        kind: ``run``, ``pipeline`` (nested) or ``step``.
        metrics: all logged so far; for kind ``run`` and ``pipeline`` the steps' metrics rolled up, with keys
            ``node/key`` (the publisher replaces characters that MLflow does not take).
        reused_from: run_id of the step run that computed the output, for a reused step.
        mlflow_run_id: the id under which it was already created at *destination*, if it was.
        outputs: name -> short description of what came out.
        message: why it failed, one line.
    """

    run_id: str
    revision: int
    root_id: str
    experiment: str
    name: str
    kind: str
    status: Status
    parent_id: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    user: str = ""
    source_file: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    artifacts: Leaf | None = None
    nested: tuple[Any, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    reused_from: str | None = None
    mlflow_run_id: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A publication was delivered."""

    run_id: str
    revision: int
    mlflow_run_id: str
