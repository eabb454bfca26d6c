"""A user's own server: real, killed, slow, restarted; read back through MLflow's own client."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.model.publication import Publication
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tracked import Metric
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.tracking.client import ClientDestination
from mlflow_pipes.tracking.publisher import Pace, Publisher, keep_publishing
from tests.integration.tracking.published_runs import (
    ROOT,
    logged_for_real,
    pipeline_run,
    step_run,
    with_tracked,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


class Mine:
    """A test's own experiment on the server that the tests share."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment

    def root(self, **fields: Any) -> Publication:
        return pipeline_run(experiment=self.experiment, **fields)

    def step(self, number: int, **fields: Any) -> Publication:
        return step_run(number, experiment=self.experiment, **fields)

    def runs(self, filter_string: str = "", **options: Any) -> list[Any]:
        client = _client(self.uri)
        experiment = client.get_experiment_by_name(self.experiment)
        return list(client.search_runs([experiment.experiment_id], filter_string, **options))


@pytest.fixture
def mine(server: Any, request: pytest.FixtureRequest) -> Mine:
    return Mine(server.uri, request.node.name)


def _publish(uri: str, outbox: Any, datastore: LocalDatastore) -> int:
    return Publisher(outbox, ClientDestination(uri), datastore).drain()


def test_runs_of_a_server_are_found_by_parent_and_metric(
    server: Any, mine: Mine, outbox: Any, datastore: LocalDatastore
) -> None:
    outbox.put(mine.root(), *[mine.step(n) for n in range(1, 6)])
    assert _publish(server.uri, outbox, datastore) == 6
    (root,) = mine.runs(f"tags.`pipes.run_id` = '{ROOT}'")
    assert root.info.run_id == outbox.receipts[ROOT].mlflow_run_id
    children = f"tags.mlflow.parentRunId = '{root.info.run_id}' and metrics.rmse > 2"
    found = mine.runs(children, order_by=["metrics.rmse DESC"])
    assert [run.info.run_name for run in found] == ["train[depth=5]", "train[depth=4]", "train[depth=3]"]
    assert found[0].info.status == "FINISHED"
    assert (found[0].info.start_time, found[0].info.end_time) == (110_000, 125_000)
    history = _client(server.uri).get_metric_history(found[0].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 2.0), (1, 0.2)]

    # A later revision sends what is new; a reused step links to its origin.
    loss = (*mine.step(1).metrics, Metric("loss", number=0.5, step=2, timestamp_ms=1002))
    outbox.put(
        mine.step(1, revision=2, metrics=loss, tags={"more": "1"}),
        mine.step(9, status=Status.REUSED, reused_from=f"{5:032x}", metrics=()),
    )
    assert _publish(server.uri, outbox, datastore) == 2
    (first,) = mine.runs("tags.more = '1'")
    assert len(_client(server.uri).get_metric_history(first.info.run_id, "loss")) == 3
    (reused,) = mine.runs("tags.`pipes.status` = 'reused'")
    assert reused.data.tags["pipes.reused_from_mlflow_run_id"] == found[0].info.run_id
    assert f"/runs/{found[0].info.run_id})" in reused.data.tags["mlflow.note.content"]
    assert len(mine.runs()) == 7


def test_files_nested_runs_datasets_and_models_reach_a_server_once(
    server: Any, mine: Mine, outbox: Any, tmp_path: Path, datastore: LocalDatastore
) -> None:
    import mlflow

    step = mine.step(5)
    outbox.put(
        mine.root(), with_tracked(step, logged_for_real(step.run_id, tmp_path / "scratch", datastore))
    )  # fmt: skip
    for _ in range(2):
        _publish(server.uri, outbox, datastore)
        outbox.receipts.clear()
    client = _client(server.uri)
    (run,) = mine.runs(f"tags.`pipes.run_id` = '{step.run_id}'")
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"docs", "table.json"}
    downloaded = client.download_artifacts(run.info.run_id, "docs/hello.txt", str(tmp_path))
    assert Path(downloaded).read_text() == "hello"
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["flights"]
    (nested,) = mine.runs(f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert nested.data.metrics == {"fold": 0.1}
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, str(model.status), model.source_run_id) == ("best", "READY", run.info.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    mlflow.set_tracking_uri(server.uri)
    try:
        assert mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict([[1.0, 2.0]]).shape == (1,)
    finally:
        mlflow.set_tracking_uri(None)


def test_a_model_registered_in_a_step_outlives_it_on_a_server(
    server: Any, tmp_path: Path, datastore: LocalDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import numpy as np
    from sklearn.linear_model import Ridge

    from mlflow_pipes.worker import capture

    monkeypatch.setenv("PIPES_MLFLOW_URI", server.uri)
    data = np.arange(20.0).reshape(10, 2)
    capture.begin("7" * 32, "train", tmp_path / "scratch")
    try:
        model = Ridge().fit(data, data[:, 0])
        mlflow.sklearn.log_model(model, name="best", registered_model_name="f", pip_requirements=["scikit-learn"])
    finally:
        capture.finish(datastore)
    capture.begin("8" * 32, "use", tmp_path / "scratch")
    try:
        assert mlflow.pyfunc.load_model("models:/f/1").predict(data[:1]).shape == (1,)
    finally:
        capture.finish(datastore)


def test_a_server_killed_in_the_middle_gets_everything_exactly_once(
    server: Any, mine: Mine, outbox: Any, datastore: LocalDatastore
) -> None:
    outbox.put(mine.root(), *[mine.step(n) for n in range(1, 25)])
    failures: list[BaseException] = []

    def publish() -> None:
        try:
            destination = ClientDestination(server.uri)
            destination.batch = 4
            publisher = Publisher(outbox, destination, datastore)
            pace = Pace(every_s=0.2, idle_s=1, longest_wait_s=1, give_up_s=240)
            assert keep_publishing(publisher, has_live_run=lambda: len(outbox.receipts) < 25, pace=pace)
        except BaseException as error:  # shown by the test
            failures.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    while len(outbox.receipts) < 1 and not failures:
        time.sleep(0.05)
    server.kill()
    time.sleep(1)
    server.start()
    thread.join(240)
    assert not failures
    runs = mine.runs()
    assert len(runs) == 25
    assert len({run.data.tags["pipes.run_id"] for run in runs}) == 25
    assert {run.info.status for run in runs} == {"FINISHED"}
    client = _client(server.uri)
    for run in runs[:10]:
        if run.data.tags["pipes.kind"] == "step":
            assert len(client.get_metric_history(run.info.run_id, "loss")) == 2


def test_a_publisher_killed_before_the_receipt_makes_no_second_run(
    server: Any, mine: Mine, outbox: Any, datastore: LocalDatastore
) -> None:
    outbox.put(mine.root(), mine.step(1), mine.step(2))
    outbox.lose_receipts = 2
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _publish(server.uri, outbox, datastore)
    assert _publish(server.uri, outbox, datastore) == 3
    assert len(mine.runs()) == 3


def test_a_hanging_server_is_noticed_within_seconds_and_served_when_it_is_back(
    server: Any, mine: Mine, outbox: Any, datastore: LocalDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(outbox, ClientDestination(server.uri), datastore)
    outbox.put(mine.root())
    publisher.drain()
    outbox.put(mine.step(1))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    server.pause()
    began = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer"):
        publisher.drain()
    assert time.monotonic() - began < 60
    server.go_on()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    assert publisher.drain() == 1
    assert len(mine.runs()) == 2


def test_what_a_server_refuses_does_not_hold_up_the_rest(
    server: Any, mine: Mine, outbox: Any, datastore: LocalDatastore
) -> None:
    outbox.put(mine.root(), mine.step(1), mine.step(2))
    _publish(server.uri, outbox, datastore)
    _client(server.uri).delete_run(outbox.receipts[f"{1:032x}"].mlflow_run_id)
    outbox.put(mine.step(1, revision=2, tags={"more": "1"}), mine.step(2, revision=2, tags={"more": "1"}))
    assert _publish(server.uri, outbox, datastore) == 2
    assert [run.info.run_name for run in mine.runs("tags.more = '1'")] == ["train[depth=2]"]


def test_a_deleted_experiment_of_a_server_is_a_clear_error(
    server: Any, mine: Mine, outbox: Any, datastore: LocalDatastore
) -> None:
    outbox.put(mine.root())
    _publish(server.uri, outbox, datastore)
    client = _client(server.uri)
    client.delete_experiment(client.get_experiment_by_name(mine.experiment).experiment_id)
    outbox.put(mine.step(1))
    with pytest.raises(TrackingError, match="is deleted: restore it"):
        _publish(server.uri, outbox, datastore)


def test_nobody_there_is_an_error_within_seconds(outbox: Any, datastore: LocalDatastore) -> None:
    outbox.put(pipeline_run())
    began = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer"):
        _publish("http://127.0.0.1:9", outbox, datastore)
    assert time.monotonic() - began < 40
