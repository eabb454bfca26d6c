"""Compute targets that other packages offer."""

import importlib
import sys

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.workspace.compute import make_targets
from mlflow_pipes.workspace.configuration import load


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    (tmp_path / "cloud_of_others.py").write_text(
        "class Cloud:\n    def __init__(self, name, datastore, *, address, **_): self.address = address\n"
    )
    (tmp_path / "cloud_of_others-1.0.dist-info").mkdir()
    (tmp_path / "cloud_of_others-1.0.dist-info" / "entry_points.txt").write_text(
        "[mlflow_pipes.compute_targets]\ncloud = cloud_of_others:Cloud\n"
    )
    (tmp_path / "cloud_of_others-1.0.dist-info" / "METADATA").write_text("Name: cloud_of_others\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("cloud_of_others", None)


def targets(folder, table):
    (folder / "pipes.toml").write_text(f"[targets.cloud]\n{table}")
    configured = load(folder, environ={}).targets
    return make_targets(["cloud"], configured=configured, folder=folder, project=folder, datastore=MemoryDatastore())


def test_its_options_reach_it_as_written(cloud):
    assert targets(cloud, 'address = "tcp://here"')["cloud"].address == "tcp://here"


def test_what_it_lacks_is_said_with_its_place(cloud):
    with pytest.raises(ConfigurationError, match=r"pipes\.toml: target 'cloud': .*address"):
        targets(cloud, "")


def test_a_key_that_it_does_not_know_is_named_with_the_near_one(cloud):
    source = cloud / "cloud_of_others.py"
    source.write_text(source.read_text().replace(", **_", ", checkout, scratch, workspace"))
    with pytest.raises(ConfigurationError, match=r"pipes\.toml: unknown key 'targets\.cloud\.adress'.*'address'"):
        targets(cloud, 'adress = "tcp://here"')


def test_a_value_that_it_refuses_is_said_with_its_place(cloud):
    source = cloud / "cloud_of_others.py"
    source.write_text(source.read_text().replace("self.address = address", "self.address = int(address)"))
    with pytest.raises(ConfigurationError, match=r"pipes\.toml: target 'cloud': .*'tcp://here'"):
        targets(cloud, 'address = "tcp://here"')
