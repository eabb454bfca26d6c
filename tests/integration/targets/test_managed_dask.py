"""A Dask cluster that is turned on by hand, outlives runs, and is found again by later ones."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, run, step
from mlflow_pipes.errors import ConfigurationError, TargetError
from mlflow_pipes.machine import daemons
from mlflow_pipes.machine.processes import identity
from mlflow_pipes.testing.target_contract import alive
from tests.waiting import wait_until

pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("ledger_in_workspace"),
]

TOML = """
[targets.kept]
type = "dask"
workers = {workers}
arguments = {{ threads_per_worker = 1 }}

[targets.there]
type = "dask"
address = "tcp://127.0.0.1:1"
"""


@step
def grandparent(number: int) -> int:
    """The process of the Dask worker that the step's own worker belongs to."""
    return dask_worker_of(os.getpid())


def dask_worker_of(pid: int) -> int:
    while b"spawn_main" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project whose name has a blank and more than ASCII."""
    place = tmp_path_factory.mktemp("managed") / "späte Flüge"
    place.mkdir()
    (place / "pipes.toml").write_text(TOML.format(workers=1))
    yield place
    with Workspace.open(place) as home:
        home.compute.stop("kept")


@pytest.fixture
def home(folder):
    with Workspace.open(folder) as opened:
        yield opened


def record(home):
    (file,) = home.folder.glob("clusters/*/cluster.json")
    return json.loads(file.read_text())


def statuses(home):
    return {one.name: one.status for one in home.compute.list()}


NAPPING = """
import os, time
from pathlib import Path
from mlflow_pipes import pipeline, step

@step
def nap(file: str, number: int) -> int:
    Path(file + str(number)).write_text(str(os.getpid()))
    time.sleep(60)
    return number

@pipeline
def napping(file: str):
    return [nap(file, number) for number in range(3)]
"""


@pytest.fixture
def pipes_run(folder):
    """Starts a run as in a terminal: what it starts is in its session, and hears Ctrl-C, too."""
    (folder / "napping.py").write_text(NAPPING)
    started = []

    def start(file):
        words = ["run", "napping.py", "--target", "kept", "--file", str(file)]
        command = [sys.executable, "-c", "from mlflow_pipes.cli import main; main()", *words]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PIPES_DISPLAY": "plain", "NO_COLOR": "1"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def cancelled_by_ctrl_c(process):
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "cancelled by Ctrl-C" in said
    assert "Traceback" not in said


def test_runs_use_a_cluster_that_is_on_and_leave_it_on_until_it_is_turned_off(home, folder, pipes_run, tmp_path):
    assert statuses(home)["kept"] == "off"
    assert home.compute.start("kept").status == "on"
    first = record(home)
    assert home.compute.start("kept").status == "on", "turning on what is on is harmless"
    assert record(home) == first
    workers = {run(grandparent(number), workspace=home, target="kept", observers=()).output() for number in range(2)}
    assert len(workers) == 1, "both runs were done by one and the same worker"
    (worker,) = workers
    assert alive(worker)
    process = pipes_run(tmp_path / "begun-")
    wait_until(lambda: any(file.read_text() for file in tmp_path.glob("begun-*")))
    (napper,) = (int(file.read_text()) for file in tmp_path.glob("begun-*"))
    assert dask_worker_of(napper) == worker
    cancelled_by_ctrl_c(process)
    assert not alive(napper)
    assert alive(worker), "Ctrl-C is the run's end, and not the cluster's"
    with Workspace.open(folder) as later:
        assert statuses(later)["kept"] == "on"
        assert later.compute.show("kept").capacity.slots == 1
        assert later.compute.stop("kept").status == "off"
    assert not daemons.alive(first["pid"], first["process"])
    assert not alive(worker)
    assert list(home.folder.glob("clusters/*/*")) == []
    assert home.compute.stop("kept").status == "off", "turning off what is off is harmless"


def test_a_cluster_that_was_killed_is_off_and_runs_go_on_without_it(home, caplog):
    home.compute.start("kept")
    killed = record(home)
    os.kill(killed["pid"], signal.SIGKILL)
    wait_until(lambda: identity(killed["pid"]) != killed["process"])
    assert statuses(home)["kept"] == "off"
    assert alive(killed["pid"]) is False
    run(grandparent(10), workspace=home, target="kept", observers=())
    assert "was turned on, and is not there any more" in caplog.text
    home.compute.start("kept")
    assert record(home)["pid"] != killed["pid"]
    home.compute.stop("kept")


def test_a_cluster_that_is_configured_otherwise_now_must_be_turned_off_first(home, folder):
    home.compute.start("kept")
    (folder / "pipes.toml").write_text(TOML.format(workers=2))
    try:
        with Workspace.open(folder) as later:
            with pytest.raises(TargetError, match=r"configured otherwise .* \(pipes compute stop kept\)"):
                later.compute.start("kept")
            assert later.compute.stop("kept").status == "off"
    finally:
        (folder / "pipes.toml").write_text(TOML.format(workers=1))


def spawned_in(session):
    """The processes of Dask workers in a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == session and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def is_deaf_to_ctrl_c(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) & 1 << (signal.SIGINT - 1))


def test_ctrl_c_while_workers_start_leaves_neither_processes_nor_their_tracebacks(pipes_run, tmp_path):
    process = pipes_run(tmp_path / "begun-")
    wait_until(lambda: spawned_in(process.pid))
    assert all(map(is_deaf_to_ctrl_c, spawned_in(process.pid))), "else it would end them before their cluster does"
    cancelled_by_ctrl_c(process)
    assert spawned_in(process.pid) == []


def test_what_cannot_be_made_is_told_and_leaves_nothing(home):
    home.compute.attach("wrong", type="dask", cluster="distributed.LocalCluster", arguments={"n_workers": "many"})
    with pytest.raises(TargetError, match=r"target 'wrong': cannot make a distributed\.LocalCluster: .*'str'"):
        home.compute.start("wrong")
    assert home.compute.show("wrong").status == "off"
    home.compute.attach("wrong", type="dask", cluster="dask_moon.Cluster")
    with pytest.raises(TargetError, match=r"target 'wrong': there is no Dask cluster class dask_moon\.Cluster"):
        home.compute.start("wrong")
    home.compute.detach("wrong")


def test_an_attached_target_that_is_on_cannot_be_forgotten(home):
    home.compute.attach("mine", type="dask", workers=1, arguments={"threads_per_worker": 1})
    home.compute.start("mine")
    for change in (lambda: home.compute.detach("mine"), lambda: home.compute.attach("mine", type="local")):
        with pytest.raises(ConfigurationError, match=r"'mine' is on: turn it off first \(pipes compute stop mine\)"):
            change()
    home.compute.stop("mine")
    home.compute.detach("mine")


def test_a_scheduler_of_somebody_elses_is_not_turned_on(home):
    assert statuses(home)["there"] == "on demand"
    with pytest.raises(ConfigurationError, match=r"'there' of type 'dask' cannot be turned on: each run .* as it is"):
        home.compute.start("there")
