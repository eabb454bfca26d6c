"""The model registry as MLflow's own client sees it: on SQLite, and on a server."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.lifecycle import ModelRegistry, model_digest
from tests.mlflow_server import MlflowServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow is not written for the newest SQLAlchemy
]


def client_of(registry):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A tracking server that serves artifacts, as a team would have it."""
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    running.start()
    yield running.uri
    running.kill()


@pytest.fixture(params=["embedded", "server"])
def registry(request, tmp_path):
    if request.param == "embedded":
        return ModelRegistry.of_workspace(tmp_path, {})
    return ModelRegistry(request.getfixturevalue("server"), tmp_path / "mlflow")


@pytest.fixture
def name(request, tmp_path):
    return f"delays-{tmp_path.name}"


def test_the_same_model_is_registered_once_and_the_next_becomes_the_next_version(
    registry, name, model_folder, better_model_folder, tmp_path
):
    assert registry.champion(name) is None
    first = registry.register(
        name, model_folder, metrics={"mae": 3.5}, tags={"pipes.run_id": "r" * 32}, run_id="a" * 32
    )
    assert (first.version, first.is_new, first.alias) == ("1", True, "champion")
    saved_again = shutil.copytree(model_folder, tmp_path / "again")
    lines = (saved_again / "MLmodel").read_text().splitlines()
    (saved_again / "MLmodel").write_text("\n".join(x.replace("model_uuid: ", "model_uuid: f") for x in lines))
    again = registry.register(name, saved_again, metrics={"mae": 9.0})
    assert again == first._replace(is_new=False)

    second = registry.register(name, better_model_folder, metrics={"mae": 3.0})
    assert (second.version, second.is_new) == ("2", True)
    assert registry.champion(name) == second._replace(is_new=False)
    registry.register(name, model_folder)
    assert registry.champion(name) == first._replace(is_new=False)

    told = client_of(registry).get_model_version(name, "1")
    assert told.tags["pipes.model_digest"] == model_digest(model_folder)
    assert (told.tags["pipes.metric.mae"], told.tags["pipes.run_id"], told.run_id) == ("3.5", "r" * 32, "a" * 32)


def test_the_models_files_can_be_had_back_and_loaded_by_mlflow_itself(registry, name, model_folder, tmp_path):
    import mlflow

    version = registry.register(name, model_folder)
    files = registry.files(version)
    assert model_digest(files) == version.digest == model_digest(model_folder)
    assert registry.files(version) == files
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    finally:
        mlflow.set_tracking_uri(before)
    import pandas as pd

    assert loaded.predict(pd.DataFrame({"distance": [7.0], "hour": [1], "carrier": ["UA"]})) == pytest.approx([17.0])


REGISTER = """
import sys
from pathlib import Path
from mlflow_pipes.lifecycle import ModelRegistry
version = ModelRegistry(sys.argv[1], Path(sys.argv[2])).register(sys.argv[3], Path(sys.argv[4]))
print(version.version, version.is_new)
"""


def test_two_who_register_one_model_at_once_get_one_version(registry, name, model_folder):
    command = [sys.executable, "-c", REGISTER, registry.uri, str(registry.folder), name, str(model_folder)]
    two = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [each.communicate() for each in two]
    assert sorted(out.strip() for out, _ in answers) == ["1 False", "1 True"], answers
    assert len(client_of(registry).search_model_versions(f"name = '{name}'")) == 1


def test_a_server_that_is_away_is_an_error_for_the_champion_and_for_registering(tmp_path, model_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = ModelRegistry(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
        with pytest.raises(TrackingError, match="does not answer"):
            away.champion("delays")


def test_a_database_that_mlflow_has_just_made_has_no_champion(tmp_path, model_folder):
    registry = ModelRegistry.of_workspace(tmp_path, {})
    registry.register("other", model_folder, alias="")
    assert registry.champion("other") is None
    assert registry.champion("delays") is None
    assert Path(registry.files(registry.register("other", model_folder))).is_relative_to(tmp_path)
