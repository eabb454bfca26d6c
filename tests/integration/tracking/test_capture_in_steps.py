"""What a user's code does with ``mlflow.*`` inside a step, and what is harvested of it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from mlflow_pipes import content
from mlflow_pipes.model.tracked import NOTHING_TRACKED, Tracked
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.worker import capture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # MLflow and scikit-learn warn about each other's deprecations
]
RUN = "5" * 32


class Step:
    """A capture for the length of a ``with`` block."""

    def __init__(self, folder: Path, datastore: LocalDatastore) -> None:
        self.folder, self.datastore = folder, datastore
        self.tracked = NOTHING_TRACKED

    def __enter__(self) -> Self:
        capture.begin(RUN, "train", self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self.tracked = capture.finish(self.datastore)

    def files(self, checkout: Path) -> set[str]:
        assert self.tracked.artifacts is not None
        folder = content.load(self.tracked.artifacts, self.datastore, Path, checkout=checkout)
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def step(tmp_path: Path, datastore: LocalDatastore) -> Step:
    return Step(tmp_path / "scratch", datastore)


@pytest.fixture(autouse=True)
def _mlflow_stays_untouched() -> Iterator[None]:
    import mlflow
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    uri, environ = mlflow.get_tracking_uri(), dict(os.environ)
    yield
    assert mlflow.get_tracking_uri() == uri
    assert mlflow.active_run() is None
    assert not any(AUTOLOGGING_INTEGRATIONS.values())
    ours = {name: value for name, value in environ.items() if name.startswith("MLFLOW")}
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW")} == ours


def _values(tracked: Tracked, key: str) -> list[float | None]:
    return [metric.number for metric in tracked.metrics if metric.key == key]


def test_metrics_params_and_tags_land_on_the_steps_run(step: Step) -> None:
    import mlflow

    with step:
        assert mlflow.active_run().info.run_id == RUN
        mlflow.log_metric("loss", 0.5, step=0)
        mlflow.log_metric("loss", 0.25, step=1, timestamp=1234)
        mlflow.log_metrics({"a": math.inf, "b": math.nan}, step=3)
        mlflow.log_param("depth", 8)
        mlflow.set_tag("mlflow.note.content", "words")
        mlflow.set_tag("colour", "red")
        assert mlflow.active_run().info.run_id == RUN
        assert mlflow.get_run(RUN).data.metrics["loss"] == 0.25
    tracked = step.tracked
    assert _values(tracked, "loss") == [0.5, 0.25]
    assert [m.step for m in tracked.metrics] == [0, 1, 3, 3]
    assert tracked.metrics[1].timestamp_ms == 1234
    assert tracked.metrics[0].timestamp_ms > 1_600_000_000_000
    assert _values(tracked, "a") == [math.inf]
    assert math.isnan(_values(tracked, "b")[0] or 0)
    assert tracked.params == {"depth": "8"}
    assert tracked.tags == {"mlflow.note.content": "words", "colour": "red"}
    assert not step.folder.exists()


def test_files_of_all_kinds_are_stored_as_one_folder(step: Step, tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "report.txt").write_text("r")
    with step:
        mlflow.log_artifact(str(tmp_path / "report.txt"), "docs")
        mlflow.log_text("t", "a/b.txt")
        mlflow.log_dict({"x": 1}, "d.json")
        mlflow.log_table({"c": [1, 2]}, "t.json")
        mlflow.log_table({"c": [3]}, "t.json")
        assert {item.path for item in mlflow.MlflowClient().list_artifacts(RUN)} == {"docs", "a", "d.json", "t.json"}
    assert step.files(tmp_path / "out") == {"docs/report.txt", "a/b.txt", "d.json", "t.json"}
    assert "t.json" in step.tracked.tags["mlflow.loggedArtifacts"]


def test_a_retry_of_the_step_keeps_its_own_files(step: Step, tmp_path: Path) -> None:
    import mlflow

    for attempt in ("first", "second"):
        step.folder = tmp_path / attempt
        with step:
            mlflow.log_text(attempt, f"{attempt}.txt")
        assert step.files(tmp_path / "out" / attempt) == {f"{attempt}.txt"}


def test_a_figure_is_stored(step: Step, tmp_path: Path) -> None:
    import matplotlib as mpl
    import mlflow

    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([1, 2])
    with step:
        mlflow.log_figure(figure, "plots/roc.png")
    assert step.files(tmp_path / "out") == {"plots/roc.png"}


def test_start_run_without_nested_is_the_steps_run_as_often_as_it_is_used(step: Step) -> None:
    import mlflow

    with step:
        mlflow.log_metric("before", 1)
        with mlflow.start_run() as run:
            assert run.info.run_id == RUN
            mlflow.log_metric("inside", 2)
        mlflow.log_metric("between", 3)
        with mlflow.start_run(description="again") as run:
            assert run.info.run_id == RUN
        mlflow.end_run()
        mlflow.end_run()
        mlflow.log_metric("after", 4)
        assert mlflow.active_run().info.run_id == RUN
    assert {metric.key for metric in step.tracked.metrics} == {"before", "inside", "between", "after"}
    assert step.tracked.nested == ()
    assert step.tracked.tags["mlflow.note.content"] == "again"


def test_a_name_given_to_the_only_run_is_kept_as_a_tag(step: Step) -> None:
    import mlflow

    with step, mlflow.start_run(run_name="mine") as run:
        assert run.info.run_id == RUN
    assert step.tracked.tags == {"pipes.logged_run_name": "mine"}


def test_nested_runs_are_runs_below_the_step(step: Step, tmp_path: Path) -> None:
    import mlflow

    with step:
        for depth in (1, 2):
            with mlflow.start_run(run_name=f"depth-{depth}", nested=True):
                mlflow.log_param("depth", depth)
                mlflow.log_metric("loss", 1 / depth)
                mlflow.log_text("x", "note.txt")
                with mlflow.start_run(run_name="deeper", nested=True):
                    mlflow.log_metric("deep", 1)
    nested = {record["run_id"]: record for record in step.tracked.nested}
    assert sorted(record["name"] for record in nested.values()) == ["deeper", "deeper", "depth-1", "depth-2"]
    for record in nested.values():
        above = RUN if record["name"].startswith("depth") else next(r for r in nested if r == record["parent_id"])
        assert record["parent_id"] == above
        assert record["status"] == "FINISHED"
    depth_2 = next(record for record in nested.values() if record["name"] == "depth-2")
    assert depth_2["params"] == {"depth": "2"}
    assert [point[:2] for point in depth_2["metrics"]] == [["loss", 0.5]]
    assert f".mlflow/runs/{depth_2['run_id']}/note.txt" in step.files(tmp_path / "out")


def test_several_named_runs_in_a_step_do_not_overwrite_each_other(step: Step) -> None:
    import mlflow

    with step:
        for depth in (1, 2, 3):
            with mlflow.start_run(run_name=f"depth-{depth}"):
                mlflow.log_param("depth", depth)
    assert step.tracked.params == {"depth": "1"}
    assert [record["params"] for record in step.tracked.nested] == [{"depth": "2"}, {"depth": "3"}]


def test_threads_of_a_step_log_to_its_run(step: Step) -> None:
    import mlflow

    with step:
        threads = [threading.Thread(target=mlflow.log_metric, args=(f"t{n}", n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {metric.key for metric in step.tracked.metrics} == {"t0", "t1", "t2", "t3"}


def test_a_subprocess_of_a_step_logs_to_its_run(step: Step) -> None:
    with step:
        code = "import mlflow; mlflow.log_metric('sub', 1); mlflow.log_text('x', 'sub.txt')"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert _values(step.tracked, "sub") == [1.0]
    assert step.tracked.artifacts is not None


def test_a_client_of_the_users_own_lands_on_the_steps_run(step: Step) -> None:
    import mlflow
    from mlflow.entities import Metric

    with step:
        client = mlflow.MlflowClient()
        client.log_batch(RUN, metrics=[Metric("m", 1.0, 5, 2)])
        assert client.get_metric_history(RUN, "m")[0].step == 2
        other = client.create_run(experiment_id="0", run_name="by hand")
        client.log_metric(other.info.run_id, "n", 2)
        client.set_terminated(other.info.run_id)
        found = client.search_runs(["0"], "metrics.n > 1")
        assert [run.info.run_name for run in found] == ["by hand"]
    assert _values(step.tracked, "m") == [1.0]
    assert [record["name"] for record in step.tracked.nested] == ["by hand"]


def test_an_exception_in_the_step_still_harvests(step: Step) -> None:
    import mlflow

    def fail() -> None:
        mlflow.log_metric("before", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), step, mlflow.start_run():
        fail()
    assert _values(step.tracked, "before") == [1.0]


def test_what_is_logged_in_the_background_is_there_too(step: Step) -> None:
    import mlflow

    with step:
        for number in range(20):
            mlflow.log_metric("m", number, step=number, synchronous=False)
    assert sorted((m.number, m.step) for m in step.tracked.metrics) == [(float(n), n) for n in range(20)]


def test_an_experiment_set_by_the_step_changes_nothing(step: Step) -> None:
    import mlflow

    with step:
        mlflow.set_experiment("elsewhere")
        mlflow.log_metric("m", 1)
        with mlflow.start_run() as run:
            assert run.info.run_id == RUN
    with step:
        mlflow.log_metric("m", 1)
    assert _values(step.tracked, "m") == [1.0]


def test_a_tracking_uri_set_by_the_step_is_respected_for_that_step_only(step: Step, tmp_path: Path) -> None:
    import mlflow

    elsewhere = f"sqlite:///{tmp_path}/own.db"
    with step:
        mlflow.log_metric("captured", 1)
        mlflow.set_tracking_uri(elsewhere)
        with mlflow.start_run() as run:
            mlflow.log_metric("own", 2)
            assert run.info.run_id != RUN
    assert {metric.key for metric in step.tracked.metrics} == {"captured"}
    with step:
        mlflow.log_metric("captured again", 1)
    assert {metric.key for metric in step.tracked.metrics} == {"captured again"}
    assert mlflow.MlflowClient(elsewhere).get_run(run.info.run_id).data.metrics == {"own": 2.0}


def test_a_step_sees_nothing_of_the_step_before(step: Step) -> None:
    import mlflow
    from sklearn.linear_model import LinearRegression

    with step:
        mlflow.start_run(nested=True)
        mlflow.start_run(nested=True)
        mlflow.sklearn.autolog(log_models=False)
        mlflow.log_metric("m", 1)
    with step:
        assert mlflow.active_run().info.run_id == RUN
        assert mlflow.last_active_run() is None or mlflow.last_active_run().info.run_id == RUN
        LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    assert not step.tracked.metrics


def test_a_run_that_is_active_around_an_inline_step_is_left_alone(step: Step, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/around.db")
    try:
        with mlflow.start_run() as around:
            with step:
                assert mlflow.active_run().info.run_id == RUN
                mlflow.log_metric("inside", 1)
            assert mlflow.active_run().info.run_id == around.info.run_id
            mlflow.log_metric("outside", 1)
            assert set(mlflow.get_run(around.info.run_id).data.metrics) == {"outside"}
    finally:
        mlflow.set_tracking_uri(None)
    assert mlflow.get_tracking_uri() == before
    assert _values(step.tracked, "inside") == [1.0]


def test_sklearn_autologging_and_logged_models_are_captured(step: Step, tmp_path: Path) -> None:
    import mlflow
    import numpy as np
    from sklearn.linear_model import Ridge

    data = np.arange(20.0).reshape(10, 2)
    with step:
        mlflow.sklearn.autolog()
        model = Ridge(alpha=0.3).fit(data, data[:, 0])
        logged = mlflow.sklearn.log_model(model, name="best", pip_requirements=["scikit-learn"])
        assert mlflow.pyfunc.load_model(logged.model_uri).predict(data[:1]).shape == (1,)
        assert mlflow.last_logged_model().model_id == logged.model_id
        assert {m.name for m in mlflow.search_logged_models(output_format="list")} == {"model", "best"}
    tracked = step.tracked
    assert tracked.params["alpha"] == "0.3"
    assert "training_r2_score" in {metric.key for metric in tracked.metrics}
    models = {model["name"]: model for model in tracked.extra["models"]}
    assert set(models) == {"model", "best"}
    assert models["best"]["status"] == "READY"
    assert models["best"]["run_id"] == RUN
    assert models["model"]["params"]["alpha"] == "0.3"
    assert tracked.extra["model_outputs"]
    assert tracked.extra["datasets"][0]["tags"] == {"mlflow.data.context": "train"}
    assert f".mlflow/models/{models['best']['model_id']}/MLmodel" in step.files(tmp_path / "out")


def test_a_model_registered_in_the_step_outlives_it(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import numpy as np
    from sklearn.linear_model import Ridge

    from mlflow_pipes.tracking.embedded import open_embedded

    open_embedded(tmp_path / "mlflow").close()
    destination = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("PIPES_MLFLOW_URI", destination)
    data = np.arange(20.0).reshape(10, 2)
    with step:
        model = Ridge().fit(data, data[:, 0])
        logged = mlflow.sklearn.log_model(
            model, name="best", registered_model_name="flights", pip_requirements=["scikit-learn"]
        )
        mlflow.register_model(logged.model_uri, "flights")
    versions = mlflow.MlflowClient(destination).search_model_versions("name = 'flights'")
    assert sorted(int(version.version) for version in versions) == [1, 2]
    assert {version.run_id for version in versions} == {RUN}
    with step:
        assert mlflow.pyfunc.load_model("models:/flights/1").predict(data[:1]).shape == (1,)
        with pytest.raises(mlflow.MlflowException):
            mlflow.get_run("9" * 32)


def test_dataset_inputs_are_captured(step: Step) -> None:
    import mlflow
    import pandas as pd

    with step:
        dataset = mlflow.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="flights")
        mlflow.log_input(dataset, context="training")
        mlflow.log_input(dataset, context="training")
        assert mlflow.get_run(RUN).inputs.dataset_inputs[0].dataset.name == "flights"
    (logged,) = step.tracked.extra["datasets"]
    assert logged["dataset"]["name"] == "flights"
    assert logged["tags"] == {"mlflow.data.context": "training"}


def test_traces_never_fail_a_step(step: Step, caplog: pytest.LogCaptureFixture) -> None:
    import mlflow

    @mlflow.trace
    def traced(x: int) -> int:
        with mlflow.start_span("inner") as span:
            span.set_outputs(x)
        return x + 1

    with step:
        assert traced(1) == 2
        mlflow.log_metric("m", 1)
    assert _values(step.tracked, "m") == [1.0]
    assert "1 MLflow trace(s) of this step were not kept" in caplog.text


def test_changing_a_parameter_is_mlflows_own_error(step: Step) -> None:
    import mlflow

    with step:
        mlflow.log_param("a", 1)
        mlflow.log_param("a", 1)
        with pytest.raises(mlflow.MlflowException, match="Changing param values"):
            mlflow.log_param("a", 2)
    assert step.tracked.params == {"a": "1"}


def test_a_run_of_another_step_is_a_clear_error(step: Step) -> None:
    import mlflow

    with step, pytest.raises(mlflow.MlflowException, match="was not started by this step"):
        mlflow.get_run("9" * 32)


def test_the_first_import_of_mlflow_in_a_step_finds_the_capture(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from mlflow_pipes.worker import capture
from mlflow_pipes.stores.memory import MemoryDatastore
capture.begin({RUN!r}, "train", Path({str(tmp_path / "scratch")!r}))
assert "mlflow" not in sys.modules
from mlflow import active_run, log_metric
assert active_run().info.run_id == {RUN!r}
log_metric("first", 1)
assert [m.key for m in capture.finish(MemoryDatastore()).metrics] == ["first"]
assert active_run() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_names_that_are_private_to_mlflow_are_still_there() -> None:
    """MLflow is free to change them; ``worker/capture/fluent.py`` must then follow."""
    import mlflow.utils.autologging_utils as autologging
    from mlflow.tracing import provider
    from mlflow.tracking import fluent
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as tracking

    for module, names in (
        (fluent, ("_active_run_stack", "_last_active_run_id", "_last_logged_model_id", "_ACTIVE_MODEL_CONTEXT",
                  "_active_experiment_id", "_get_or_start_run", "run_id_to_system_metrics_monitor")),
        (tracking, ("_tracking_uri", "_get_store", "_register", "_artifact_repos_cache")),
        (registry, ("_registry_uri",)),
        (autologging, ("AUTOLOGGING_INTEGRATIONS", "_AUTOLOGGING_GLOBALLY_DISABLED")),
        (provider, ("provider", "reset")),
    ):  # fmt: skip
        assert [name for name in names if not hasattr(module, name)] == []
