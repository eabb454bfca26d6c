"""The step library's plain functions, without a run around them."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes import SignedModel, current_run
from mlflow_pipes.errors import ArgumentError, NotFoundError, ServiceError
from mlflow_pipes.lifecycle import ModelVersion
from mlflow_pipes_steps import (
    Comparison,
    Deployment,
    call_web_service,
    choose_best,
    compare_with_champion,
    deploy_web_service,
    evaluate,
    register_model,
)

ROWS = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0, 6.0], "note": ["a", "b", "c", "d"]})


class Line:
    """Predicts x + 1 and insists on its one column."""

    feature_names_in_ = np.array(["x"])
    _estimator_type = "regressor"

    def predict(self, features):
        assert list(features.columns) == ["x"]
        return features.x.to_numpy() + 1.0


def test_a_regression_is_measured_on_the_columns_that_the_model_knows():
    found = evaluate.function(Line(), ROWS, "y", task="regression")
    assert found == pytest.approx(
        {"mae": 0.5, "rmse": 1.0, "median_error": 0.0, "bias": -0.5, "r2": 1 - 4 / 14}, abs=1e-12
    )
    logged = {metric.key: metric.number for metric in current_run().metrics}
    assert logged["mae"] == 0.5


def test_a_signed_model_is_measured_like_the_model_it_holds():
    assert evaluate.function(SignedModel(Line(), ROWS[["x"]]), ROWS, "y", ("mae",), "regression") == {"mae": 0.5}


def test_a_classification_is_found_from_the_model_and_measured_by_its_probabilities_too():
    from sklearn.linear_model import LogisticRegression

    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "late": [0, 0, 1, 0, 1, 1]})
    model = LogisticRegression().fit(rows[["x"]], rows.late)
    found = evaluate.function(model, rows, "late")
    assert set(found) == {"accuracy", "balanced_accuracy", "f1", "log_loss", "roc_auc"}
    assert found["roc_auc"] == pytest.approx(8 / 9)


def test_without_probabilities_the_metrics_that_need_them_are_left_out():
    from sklearn.svm import LinearSVC

    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "late": [0, 0, 1, 1]})
    found = evaluate.function(LinearSVC().fit(rows[["x"]], rows.late), rows, "late")
    assert set(found) == {"accuracy", "balanced_accuracy", "f1"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((ROWS, "z"), "no column 'z'"),
        ((ROWS, "notes"), "did you mean 'note'"),
        ((ROWS, "y", ("mea",)), "no metric 'mea'; did you mean 'mae'?"),
        ((ROWS.head(0), "y"), "no rows"),
    ],
)
def test_what_cannot_be_measured_is_named(arguments, says):
    with pytest.raises(ArgumentError) as caught:
        evaluate.function(Line(), *arguments, task="regression")
    assert says in str(caught.value)


scores = st.dictionaries(st.text(min_size=1, max_size=3), st.floats(allow_nan=False), min_size=1)


@given(scores, st.sampled_from(["min", "max"]))
def test_the_best_candidate_is_the_one_with_the_extreme_metric_and_of_equals_the_first(by_name, mode):
    from pathlib import Path

    models = {name: Path(name) for name in by_name}
    best = choose_best.function(models, {name: {"m": value} for name, value in by_name.items()}, "m", mode)
    extreme = min(by_name.values()) if mode == "min" else max(by_name.values())
    assert best.name == next(name for name, value in by_name.items() if value == extreme)
    assert (best.model, best.metrics) == (Path(best.name), {"m": extreme})


@pytest.mark.parametrize(
    ("models", "metrics", "says"),
    [
        ({}, {}, "same names"),
        ({"a": 1}, {"b": {"m": 1.0}}, "only one has a, b"),
        ({"a": 1}, {"a": {"mm": 1.0}}, "candidate 'a' has no metric 'm'; did you mean 'mm'?; it has mm"),
        ({"a": 1}, {"a": {"m": math.nan}}, "not a number"),
        ({"a": 1}, {"a": {"m": 1.0}}, "is a builtins.int, which is not stored as an MLflow model folder"),
    ],
)
def test_candidates_that_cannot_be_compared_are_named(models, metrics, says):
    with pytest.raises(ArgumentError) as caught:
        choose_best.function(models, metrics, "m")
    assert says in str(caught.value)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPES_WORKSPACE", str(tmp_path / ".pipes"))
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", "PIPES_MLFLOW_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_champion_every_candidate_wins(workspace):
    found = compare_with_champion.function(workspace, {"mae": 3.0}, "delays", "mae")
    assert found == Comparison(wins=True, champion=None)


def test_a_candidate_that_does_not_win_is_not_registered_and_the_champion_is_the_answer(workspace):
    champion = ModelVersion("delays", "7", "d", "/nowhere", "r")
    found = register_model.function(workspace, "delays", {}, Comparison(wins=False, champion=champion))
    assert found == champion
    assert not (workspace / ".pipes/mlflow/mlflow.db").exists()


def test_a_model_whose_files_are_gone_is_not_deployed_and_the_remedy_told(workspace):
    gone = ModelVersion("delays", "7", "d", "/nowhere", "r")
    with pytest.raises(NotFoundError, match="register the model again"):
        deploy_web_service.function(gone, "delays")
    with pytest.raises(NotFoundError, match="no service 'delays'"):
        call_web_service.function(Deployment("delays", "http://127.0.0.1:1", "7", "d"), [])
    assert ServiceError.exit_code == 75
