"""The store that we own, read back through MLflow's own client."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import TrackingError
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tracked import Metric
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.tracking import embedded_schema
from mlflow_pipes.tracking.client import ClientDestination
from mlflow_pipes.tracking.embedded import EmbeddedDestination, open_embedded
from mlflow_pipes.tracking.publisher import Publisher
from tests.integration.tracking.published_runs import (
    EXPERIMENT,
    ROOT,
    logged_for_real,
    pipeline_run,
    step_run,
    with_tracked,
)

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "mlflow"


@pytest.fixture
def publish(store: Path, outbox: Any, datastore: LocalDatastore) -> Callable[..., int]:
    def publish(*publications: Any) -> int:
        outbox.put(*publications)
        destination = open_embedded(store)
        try:
            return Publisher(outbox, destination, datastore).drain()
        finally:
            destination.close()

    return publish


def _client(store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def test_runs_are_first_class_in_mlflows_search(publish: Callable[..., int], store: Path) -> None:
    assert publish(pipeline_run(), *[step_run(n) for n in range(1, 31)]) == 31
    client = _client(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    children = f"tags.mlflow.parentRunId = '{ROOT}'"
    found = client.search_runs(
        [experiment.experiment_id], f"{children} and metrics.rmse > 27", order_by=["metrics.rmse DESC"]
    )
    assert [run.info.run_id for run in found] == [f"{n:032x}" for n in (30, 29, 28)]
    run = found[0]
    assert run.info.run_name == "train[depth=30]"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (110_000, 150_000)
    assert run.data.params == {"depth": "30"}
    assert run.data.metrics == {"rmse": 30.0, "loss": 1 / 30}
    assert run.data.tags["mlflow.user"] == "ann"
    assert run.data.tags["mlflow.source.name"] == "flights.py"
    assert "a Ridge" in run.data.tags["mlflow.note.content"]
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 2.0), (1, 1 / 30)]
    assert client.search_runs([experiment.experiment_id], "params.depth = '7'")[0].info.run_id == f"{7:032x}"
    assert {e.name for e in client.search_experiments()} == {"Default", EXPERIMENT}


def test_delivering_again_changes_nothing_and_a_new_revision_updates_the_run(
    publish: Callable[..., int], store: Path, outbox: Any
) -> None:
    running = step_run(1, status=Status.RUNNING, ended_at=None, metrics=(Metric("loss", number=2.0, timestamp_ms=1),))
    publish(pipeline_run(), running)
    assert _client(store).get_run(f"{1:032x}").info.status == "RUNNING"
    more = (*running.metrics, Metric("loss", number=1.0, step=1, timestamp_ms=2))
    publish(step_run(1, revision=2, status=Status.FAILED, metrics=more, message="ValueError: no"))
    outbox.receipts.clear()
    assert publish() == 2
    client = _client(store)
    run = client.get_run(f"{1:032x}")
    assert run.info.status == "FAILED"
    assert run.data.metrics["loss"] == 1.0
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2
    assert "ValueError: no" in run.data.tags["mlflow.note.content"]
    with sqlite3.connect(store / "mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    connection.close()


def test_nan_and_infinite_values_are_kept_as_mlflow_keeps_them(publish: Callable[..., int], store: Path) -> None:
    publish(step_run(1, metrics=tuple(Metric(k, number=v) for k, v in (("n", math.nan), ("i", math.inf)))))
    metrics = _client(store).get_run(f"{1:032x}").data.metrics
    assert math.isnan(metrics["n"])
    assert metrics["i"] > 1e308


def test_awkward_keys_and_long_values_are_taken(publish: Callable[..., int], store: Path) -> None:
    publish(
        step_run(
            1,
            metrics=(Metric("train[max_depth=8]/rmse", number=1.0), Metric("k" * 400, number=2.0)),
            params={"p[0]": "x" * 9000},
            tags={"tag?": "y" * 9000},
        )
    )
    run = _client(store).get_run(f"{1:032x}")
    assert run.data.metrics["train.max_depth_8/rmse"] == 1.0
    assert len(run.data.metrics) == 2
    assert len(run.data.params["p.0"]) == 6000
    assert len(run.data.tags["tag_"]) == 5000


def test_figures_tables_and_texts_are_artifacts(publish: Callable[..., int], store: Path) -> None:
    figure = Leaf("file", digest_bytes(b"\x89PNG"), inline=b"\x89PNG")
    publish(
        step_run(
            1,
            metrics=(
                Metric("roc", "figure", figure=figure),
                Metric("confusion", "table", plain={"a": [1, 2]}),
                Metric("report", "text", plain="z" * 6000),
                Metric("curve", "list", plain=[3, 2, 1]),
            ),
        )
    )
    client = _client(store)
    run_id = f"{1:032x}"
    assert {item.path for item in client.list_artifacts(run_id)} == {"roc.png", "confusion.json", "report.txt"}
    assert Path(client.download_artifacts(run_id, "roc.png")).read_bytes() == b"\x89PNG"
    assert [metric.value for metric in client.get_metric_history(run_id, "curve")] == [3, 2, 1]


def test_what_a_step_logged_arrives_with_files_nested_runs_datasets_and_models(
    publish: Callable[..., int], store: Path, tmp_path: Path, datastore: LocalDatastore
) -> None:
    import mlflow

    step = step_run(5)
    tracked = logged_for_real(step.run_id, tmp_path / "scratch", datastore)
    for _ in range(2):
        publish(pipeline_run(), with_tracked(step, tracked))
    client = _client(store)
    run = client.get_run(step.run_id)
    assert run.data.metrics == {"rmse": 3.5}
    assert {item.path for item in client.list_artifacts(step.run_id)} == {"docs", "table.json"}
    assert Path(client.download_artifacts(step.run_id, "docs/hello.txt")).read_text() == "hello"
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["flights"]
    assert [(tag.key, tag.value) for tag in run.inputs.dataset_inputs[0].tags] == [("mlflow.data.context", "training")]
    (nested,) = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{step.run_id}'")
    assert nested.info.run_name == "fold-1"
    assert nested.data.metrics == {"fold": 0.1}
    assert [item.path for item in client.list_artifacts(nested.info.run_id)] == ["fold.txt"]
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, model.status, model.source_run_id) == ("best", "READY", step.run_id)
    assert model.params["alpha"] == "0.3"
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    try:
        assert mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict([[1.0, 2.0]]).shape == (1,)
    finally:
        mlflow.set_tracking_uri(None)


def test_a_reused_step_links_to_the_run_that_computed_it(publish: Callable[..., int], store: Path) -> None:
    publish(pipeline_run(), step_run(1))
    publish(step_run(2, status=Status.REUSED, reused_from=f"{1:032x}"))
    tags = _client(store).get_run(f"{2:032x}").data.tags
    assert tags["pipes.reused_from_mlflow_run_id"] == f"{1:032x}"
    assert tags["pipes.status"] == "reused"
    assert f"/runs/{1:032x})" in tags["mlflow.note.content"]


def test_files_that_are_gone_do_not_stop_the_rest(
    publish: Callable[..., int], store: Path, tmp_path: Path, datastore: LocalDatastore
) -> None:
    from mlflow_pipes import content

    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "big.txt").write_text("x" * 5000)
    tree = content.store(tmp_path / "files", datastore)
    datastore.delete(content.blobs_of(tree, datastore))
    publish(step_run(1, artifacts=tree))
    assert _client(store).get_run(f"{1:032x}").data.metrics["rmse"] == 1.0


def test_a_deleted_experiment_is_a_clear_error(publish: Callable[..., int], store: Path) -> None:
    publish(pipeline_run())
    client = _client(store)
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    with pytest.raises(TrackingError, match=r"experiment 'flight_delays' .* is deleted: restore it"):
        publish(step_run(1))
    (deleted,) = client.search_experiments(view_type=2)
    client.restore_experiment(deleted.experiment_id)
    assert publish() == 1


def test_a_run_deleted_by_the_user_stays_deleted(publish: Callable[..., int], store: Path) -> None:
    publish(pipeline_run(), step_run(1))
    client = _client(store)
    client.delete_run(f"{1:032x}")
    publish(step_run(1, revision=2))
    assert client.get_run(f"{1:032x}").info.lifecycle_stage == "deleted"


def test_a_schema_that_is_not_known_exactly_is_written_by_the_client(
    publish: Callable[..., int], store: Path, monkeypatch: pytest.MonkeyPatch, outbox: Any
) -> None:
    publish(pipeline_run(), step_run(1))
    monkeypatch.setattr(embedded_schema, "KNOWN_REVISIONS", {})
    destination = open_embedded(store)
    assert isinstance(destination, ClientDestination)
    assert destination.name == EmbeddedDestination.name
    publish(step_run(1, revision=2, tags={"new": "tag"}), step_run(2))
    client = _client(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{ROOT}'")
    assert sorted(run.info.run_name for run in found) == ["train[depth=1]", "train[depth=2]"]
    assert client.get_run(f"{1:032x}").data.tags["new"] == "tag"
    monkeypatch.undo()
    publish(step_run(2, revision=2, tags={"back": "again"}))
    found = client.search_runs([experiment.experiment_id], "tags.back = 'again'")
    assert [run.info.run_name for run in found] == ["train[depth=2]"]
    assert len(client.search_runs([experiment.experiment_id])) == 3


def test_the_schema_script_makes_what_mlflows_migrations_make(tmp_path: Path) -> None:
    """When MLflow has a new schema: add its revision, and write the script with ``.schema`` of what is made here."""

    def schema(path: Path) -> dict[str, list[str]]:
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        connection.close()
        # A migration that copies a table writes its constraints in the order of a set.
        return {name: sorted(sql.replace(",", " ").split()) for name, sql in rows}

    embedded_schema.initialise_by_mlflow(tmp_path / "theirs.db")
    embedded_schema.ensure(tmp_path / "ours.db")
    revision = embedded_schema.revision(tmp_path / "ours.db")
    assert revision in embedded_schema.KNOWN_REVISIONS
    assert revision == embedded_schema.revision(tmp_path / "theirs.db")
    assert schema(tmp_path / "ours.db") == schema(tmp_path / "theirs.db")


def test_a_database_of_an_older_mlflow_is_upgraded(tmp_path: Path) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    database = tmp_path / "mlflow.db"
    (newest,) = embedded_schema.KNOWN_REVISIONS
    config = _get_alembic_config(f"sqlite:///{database}")
    before = ScriptDirectory.from_config(config).get_revision(newest).down_revision
    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()
    command.upgrade(config, before)
    assert embedded_schema.revision(database) == before
    assert embedded_schema.ensure(database) == newest


def test_a_database_of_a_newer_mlflow_is_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    embedded_schema.ensure(database)
    database.with_suffix(".mlflow-version").unlink()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    connection.close()
    with pytest.raises(TrackingError, match="written by a newer MLflow"):
        embedded_schema.ensure(database)
    assert embedded_schema.revision(database) == "ffffffffffff"
