"""Publications for tests, and what a step logged for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow_pipes.model.publication import Publication
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.stores.local import LocalDatastore

ROOT = "a" * 32
EXPERIMENT = "flight_delays"


def pipeline_run(**fields: Any) -> Publication:
    given: dict[str, Any] = {
        "run_id": ROOT, "revision": 1, "root_id": ROOT, "experiment": EXPERIMENT, "name": "flight_delays",
        "kind": "run", "status": Status.SUCCEEDED, "started_at": 100.0, "ended_at": 200.0, "user": "ann",
        "source_file": "flights.py", "params": {"depths": "(4, 8)"},
    }  # fmt: skip
    return Publication(**{**given, **fields})


def step_run(number: int, **fields: Any) -> Publication:
    given: dict[str, Any] = {
        "run_id": f"{number:032x}", "revision": 1, "root_id": ROOT, "parent_id": ROOT, "experiment": EXPERIMENT,
        "name": f"train[depth={number}]", "kind": "step", "status": Status.SUCCEEDED, "started_at": 110.0,
        "ended_at": 120.0 + number, "user": "ann", "source_file": "flights.py", "params": {"depth": str(number)},
        "metrics": (
            Metric("rmse", number=float(number), timestamp_ms=1000),
            Metric("loss", number=2.0, step=0, timestamp_ms=1000),
            Metric("loss", number=1.0 / number, step=1, timestamp_ms=1001),
        ),
        "outputs": {"output": "a Ridge"},
    }  # fmt: skip
    return Publication(**{**given, **fields})


def logged_for_real(run_id: str, scratch: Path, datastore: LocalDatastore) -> Tracked:
    """Run code with MLflow inside a capture, and return what is harvested."""
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import Ridge

    from mlflow_pipes.worker import capture

    data = np.arange(20.0).reshape(10, 2)
    capture.begin(run_id, "train", scratch)
    mlflow.log_metric("rmse", 3.5)
    mlflow.log_text("hello", "docs/hello.txt")
    mlflow.log_table({"c": [1, 2]}, "table.json")
    mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="flights"), context="training")
    with mlflow.start_run(run_name="fold-1", nested=True):
        mlflow.log_metric("fold", 0.1)
        mlflow.log_text("f", "fold.txt")
    model = Ridge(alpha=0.3).fit(data, data[:, 0])
    mlflow.sklearn.log_model(model, name="best", params={"alpha": 0.3}, pip_requirements=["scikit-learn"])
    return capture.finish(datastore)


def with_tracked(publication: Publication, tracked: Tracked, **fields: Any) -> Publication:
    """Return the publication of a step that logged *tracked*."""
    from dataclasses import replace

    return replace(
        publication,
        metrics=tracked.metrics,
        params={**publication.params, **tracked.params},
        tags={**publication.tags, **tracked.tags},
        artifacts=tracked.artifacts,
        nested=tracked.nested,
        extra=tracked.extra,
        **fields,
    )
