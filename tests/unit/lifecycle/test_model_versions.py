"""Identity of model folders, comparison of metrics, and reading the registry without MLflow."""

import http.server
import json
import sqlite3
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.errors import ArgumentError, NotFoundError, TrackingError
from mlflow_pipes.lifecycle import ModelRegistry, ModelVersion, is_better, model_digest
from mlflow_pipes.lifecycle.models.reading import CannotReadError, read_alias
from mlflow_pipes.lifecycle.models.version import tags_of, version_of

MLMODEL = (
    "flavors:\n  sklearn:\n    pickled_model: model.pkl\nrun_id: {run}\nutc_time_created: '{time}'\nmodel_uuid: {run}\n"
)


def model_folder(folder, run="a", time="2026", weights=b"1"):
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL.format(run=run, time=time))
    (folder / "data").mkdir()
    (folder / "data/model.pkl").write_bytes(weights)
    return folder


def test_a_models_digest_does_not_know_when_where_and_in_which_run_it_was_saved(tmp_path):
    one, two = model_folder(tmp_path / "one"), model_folder(tmp_path / "two", run="b", time="2027")
    assert model_digest(one) == model_digest(two)
    assert model_digest(one) == "dedf934f9629dc248f4d76df8d3df64dee3501eb7ce1bccd415aa4073b4ba176"


def test_other_weights_names_or_settings_make_another_digest(tmp_path):
    models = [model_folder(tmp_path / "one"), model_folder(tmp_path / "two", weights=b"2")]
    models.append(model_folder(tmp_path / "three"))
    (models[2] / "data/model.pkl").rename(models[2] / "data/other.pkl")
    models.append(model_folder(tmp_path / "four"))
    (models[3] / "MLmodel").write_text((models[3] / "MLmodel").read_text() + "signature: x\n")
    assert len(set(map(model_digest, models))) == 4


def test_what_is_no_model_folder_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="no file MLmodel"):
        model_digest(tmp_path)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_of_two_models_at_most_one_is_better_and_the_modes_are_opposites(one, two):
    mine, theirs = {"m": one}, {"m": two}
    assert not (is_better(mine, theirs, "m", "min") and is_better(theirs, mine, "m", "min"))
    assert is_better(mine, theirs, "m", "min") == is_better(theirs, mine, "m", "max")
    assert is_better(mine, theirs, "m", "min") == (one < two)


def test_a_champion_without_the_metric_is_beaten_and_a_candidate_without_it_is_an_error():
    assert is_better({"mae": 1.0}, {}, "mae", "min")
    assert not is_better({"mae": float("nan")}, {"mae": 1.0}, "mae", "min")
    with pytest.raises(ArgumentError, match="did you mean 'mae'"):
        is_better({"mae": 1.0}, {}, "mea", "min")


@given(st.dictionaries(st.text("abc_", min_size=1), st.floats(allow_nan=False)))
def test_metrics_survive_being_tags(metrics):
    version = version_of("m", 1, "/x", {**tags_of("d", metrics), "pipes.metric.odd!": "x"}, registry="r")
    assert (version.metrics, version.digest) == (metrics, "d")


def test_a_registry_that_does_not_exist_has_no_champion(tmp_path):
    assert ModelRegistry.of_workspace(tmp_path, {}).champion("delays") is None
    assert not (tmp_path / "mlflow").exists()


def test_the_configured_registry_goes_before_the_embedded_one(tmp_path):
    environ = {"PIPES_MLFLOW_URI": "http://a", "MLFLOW_REGISTRY_URI": "http://b"}
    assert ModelRegistry.of_workspace(tmp_path, environ).uri == "http://b"
    environ.pop("MLFLOW_REGISTRY_URI")
    assert ModelRegistry.of_workspace(tmp_path, environ).uri == "http://a"


def test_files_that_are_gone_are_told_with_the_remedy(tmp_path):
    gone = ModelVersion("delays", "3", "d", str(tmp_path / "gone"), "r")
    with pytest.raises(NotFoundError, match="register the model again"):
        ModelRegistry.of_workspace(tmp_path, {}).files(gone)


def test_a_database_of_another_schema_is_left_to_mlflow(tmp_path):
    sqlite3.connect(tmp_path / "x.db").close()
    (tmp_path / "x.db").write_bytes(b"")
    for uri in (f"sqlite:///{tmp_path / 'x.db'}", "postgresql://host/mlflow"):
        with pytest.raises(CannotReadError):
            read_alias(uri, "delays", "champion")


@contextmanager
def registry_server(status, content):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_is_asked_with_its_credentials_which_do_not_stay_in_the_record():
    told = {
        "model_version": {
            "version": "2",
            "source": "models:/m-1",
            "tags": [{"key": "pipes.metric.mae", "value": "1.5"}],
        }
    }
    with registry_server(200, told) as (port, asked):
        version = read_alias(f"http://me:secret@127.0.0.1:{port}", "my model", "champion")
    assert asked == [("/api/2.0/mlflow/registered-models/alias?name=my+model&alias=champion", "Basic bWU6c2VjcmV0")]
    assert (version.version, version.metrics, version.alias) == ("2", {"mae": 1.5}, "champion")
    assert version.registry == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_a_server_that_knows_no_such_model_or_alias_has_no_champion(code):
    with registry_server(404, {"error_code": code}) as (port, _):
        assert read_alias(f"http://127.0.0.1:{port}", "m", "champion") is None


@pytest.mark.parametrize(
    ("status", "content"), [(500, b"oops"), (403, {"error_code": "PERMISSION_DENIED"}), (200, b"<html>")]
)
def test_a_server_that_fails_is_an_error_and_not_an_empty_registry(status, content):
    with registry_server(status, content) as (port, _), pytest.raises(TrackingError, match="model registry"):
        read_alias(f"http://127.0.0.1:{port}", "m", "champion")
