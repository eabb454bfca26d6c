"""How good a model is on held-out rows, and which of several is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlflow_pipes import current_run, step
from mlflow_pipes.errors import ArgumentError, suggest
from mlflow_pipes.lifecycle import Mode, value_of
from mlflow_pipes_steps.model_folder import ModelFolder, checked_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Task = Literal["regression", "classification"]


class Best(NamedTuple):
    """The winner among candidates.

    Attributes:
        name: the winner's name among the candidates.
        model: its MLflow model folder.
        metrics: its metrics.
    """

    name: str
    model: Path
    metrics: dict[str, float]


@step
def evaluate(
    model: Any,
    rows: pd.DataFrame,
    target: str,
    metrics: tuple[str, ...] = (),
    task: Task | None = None,
) -> dict[str, float]:
    """Return how well a scikit-learn style model predicts held-out rows; also logged on the step's run.

    Args:
        model: has ``predict``, and for probabilities ``predict_proba``; or an MLflow model folder.
        rows: features and target; columns that the model was not trained on are left out.
        target: name of the column to predict.
        metrics: which to compute; all that fit by default. Regression: mae, rmse, median_error, bias, r2.
            Classification: accuracy, balanced_accuracy, f1, log_loss, roc_auc (the last for two classes).
        task: found from the model by default.

    Raises:
        ArgumentError: the table has no such column, or there is no such metric.
    """
    model = _loaded(model)
    if target not in rows.columns:
        raise ArgumentError(f"the rows have no column {target!r}{suggest(target, rows.columns)}")
    if len(rows) == 0:
        raise ArgumentError("there are no rows to evaluate on")
    known = getattr(model, "feature_names_in_", None)
    features = rows.drop(columns=target) if known is None else rows[list(known)]
    measures = _MEASURES[task or _task_of(model)]
    for name in metrics:
        if name not in measures:
            raise ArgumentError(f"no metric {name!r}{suggest(name, measures)}; there are {', '.join(measures)}")
    truth, predicted = rows[target].to_numpy(), model.predict(features)
    found = {}
    for name in metrics or measures:
        value = measures[name](truth, predicted, model, features)
        if value is not None:
            found[name] = float(value)
            current_run().log(name, float(value))
    return found


@step
def choose_best(
    models: Mapping[str, ModelFolder], metrics: Mapping[str, Mapping[str, float]], metric: str, mode: Mode = "min"
) -> Best:
    """Return the candidate whose *metric* is lowest (or highest, mode ``max``); of equals the first.

    Args:
        models: each candidate, by name.
        metrics: metrics of each candidate, by the same names.
        metric: which to compare by.
        mode: ``min`` or ``max``.

    Raises:
        ArgumentError: there is no candidate, one lacks the metric, or its metric is not a number.
    """
    if not models or models.keys() != metrics.keys():
        odd = sorted(models.keys() ^ metrics.keys())
        raise ArgumentError(f"models and metrics must hold the same names; only one has {', '.join(odd) or 'any'}")
    scores = {name: value_of(metrics[name], metric, f"candidate {name!r}") for name in models}
    for name, score in scores.items():
        if math.isnan(score):
            raise ArgumentError(f"candidate {name!r}: its {metric} is not a number")
    sign = 1 if mode == "min" else -1
    best = min(scores, key=lambda name: sign * scores[name])
    current_run().log("candidates", {"model": list(scores), metric: list(scores.values())})
    current_run().log("best", best)
    for name, value in metrics[best].items():
        current_run().log(name, value)
    return Best(best, checked_folder(models[best], f"candidate {best!r}"), dict(metrics[best]))


def _loaded(model: Any) -> Any:
    if not isinstance(model, Path):
        return getattr(model, "model", model)  # a SignedModel holds the model
    import mlflow.pyfunc

    pyfunc = mlflow.pyfunc.load_model(str(model))
    return pyfunc.get_raw_model() if "sklearn" in pyfunc.metadata.flavors else pyfunc


def _task_of(model: Any) -> Task:
    from sklearn.base import is_classifier

    return "classification" if is_classifier(model) else "regression"


Measure = Callable[["np.ndarray", "np.ndarray", Any, "pd.DataFrame"], "float | None"]


def _of_sklearn(name: str, **options: Any) -> Measure:
    def measure(truth: np.ndarray, predicted: np.ndarray, _model: Any, _features: pd.DataFrame) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, name)(truth, predicted, **options))

    return measure


def _bias(truth: np.ndarray, predicted: np.ndarray, _model: Any, _features: pd.DataFrame) -> float:
    """Mean of predicted minus true: above 0 the model predicts too much."""
    return float((predicted - truth).mean())


def _log_loss(truth: np.ndarray, _predicted: np.ndarray, model: Any, features: pd.DataFrame) -> float | None:
    if not hasattr(model, "predict_proba"):
        return None
    from sklearn.metrics import log_loss

    return float(log_loss(truth, model.predict_proba(features), labels=model.classes_))


def _roc_auc(truth: np.ndarray, _predicted: np.ndarray, model: Any, features: pd.DataFrame) -> float | None:
    classes: Sequence[Any] = getattr(model, "classes_", ())
    if not hasattr(model, "predict_proba") or len(classes) != 2 or len(set(truth)) != 2:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, model.predict_proba(features)[:, 1]))


_MEASURES: Mapping[Task, Mapping[str, Measure]] = {
    "regression": {
        "mae": _of_sklearn("mean_absolute_error"),
        "rmse": _of_sklearn("root_mean_squared_error"),
        "median_error": _of_sklearn("median_absolute_error"),
        "bias": _bias,
        "r2": _of_sklearn("r2_score"),
    },
    "classification": {
        "accuracy": _of_sklearn("accuracy_score"),
        "balanced_accuracy": _of_sklearn("balanced_accuracy_score"),
        "f1": _of_sklearn("f1_score", average="macro"),
        "log_loss": _log_loss,
        "roc_auc": _roc_auc,
    },
}
