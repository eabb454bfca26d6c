"""One pipeline on two targets: equal results, reused across them; code that only a snapshot brings; edits between runs."""

import importlib
import sys
import textwrap

import pytest

from mlflow_pipes import RunFailed, Workspace, run
from tests.told import TALKER, check_told, told

pytest.importorskip("distributed")
from distributed import LocalCluster

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FLOW = """
import os
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from mlflow_pipes import current_run, pipeline, step

from {package}.rates import RATE


@step
def flights(rows: int) -> pd.DataFrame:
    return pd.DataFrame({{"delay": range(rows), "carrier": ["a", "b"] * (rows // 2)}})

@step
def scaled(table: pd.DataFrame, by: int) -> pd.DataFrame:
    return table.assign(delay=table.delay * by * RATE)

@step
def totals(tables: list[pd.DataFrame]) -> dict[str, int]:
    return {{name: int(part.delay.sum()) for name, part in pd.concat(tables).groupby("carrier")}}

@step
def where(rows: int) -> str:
    print("said by", current_run().node)
    return str(Path(__file__))

@step
def fails(rows: int) -> int:
    raise ValueError("too late")

class Made(NamedTuple):
    worker: int
    content: bytes

def dask_worker() -> int:
    pid = os.getpid()
    while b"spawn_main" not in Path(f"/proc/{{pid}}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[1])
    return pid

@step
def make(number: int, before: bool) -> Made:
    return Made(dask_worker(), bytes([number]) * (4 << 20))

@step
def near(made: Made) -> bool:
    return made.worker == dask_worker()

@step
def ends_when_all_are_there(made: Made, number: int, folder: str) -> int:
    (Path(folder) / str(number)).touch()
    while len(list(Path(folder).iterdir())) < 2:
        time.sleep(0.01)
    return dask_worker()

@pipeline
def chains(length: int = 6):
    was_near = [True]
    for number in range(length):
        was_near.append(near(make(number, was_near[-1])))
    return was_near

@pipeline
def fan(folder: str):
    made = make(100, False)
    return [ends_when_all_are_there(made, number, folder) for number in range(2)]

@pipeline
def delays(rows: int = 10):
    table = flights(rows)
    return totals([scaled(table, by) for by in range(4)])

@pipeline
def place(rows: int = 1):
    return where(rows)

@pipeline
def broken(rows: int = 1):
    return fails(rows)
"""


@pytest.fixture(scope="module")
def address():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def project(tmp_path, monkeypatch, address, request):
    package = f"dask_flow_{abs(hash(request.node.name))}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rates.py").write_text("RATE = 3\n")
    (folder / "flow.py").write_text(textwrap.dedent(FLOW.format(package=package)))
    (tmp_path / "pipes.toml").write_text(f'[targets.cluster]\ntype = "dask"\naddress = "{address}"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(f"{package}.flow")
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


@pytest.mark.usefixtures("ledger_in_workspace")
def test_a_pipeline_gives_equal_results_on_both_and_what_one_computed_is_reused_on_the_other(project, tmp_path):
    with Workspace.open(tmp_path / "first") as first, Workspace.open(tmp_path / "second") as second:
        local = run(project.delays(), workspace=first, target="local")
        elsewhere = run(project.delays(), workspace=second, target="cluster")
        assert elsewhere.output() == local.output()
        assert identities(elsewhere) == identities(local)
        assert {one.target for one in elsewhere.steps} == {"cluster"}
        for workspace, other in ((first, "cluster"), (second, "local")):
            again = run(project.delays(), workspace=workspace, target=other)
            assert {str(one.status) for one in again.steps} == {"reused"}


def test_code_comes_from_the_snapshot_and_an_edit_is_seen_by_the_next_run(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        done = run(project.place(), workspace=workspace, target="cluster")
        assert done.output().endswith(project.__file__)
        assert done.output() != project.__file__
        before = run(project.delays(), workspace=workspace, target="cluster").output()
        rates = sys.modules[f"{project.__package__}.rates"]
        (tmp_path / project.__package__ / "rates.py").write_text("RATE = 3 * 7  # dearer\n")
        importlib.reload(rates)
        flow = importlib.reload(project)
        after = run(flow.delays(), workspace=workspace, target="cluster").output()
        assert after == {name: 7 * total for name, total in before.items()}


def test_a_failure_names_the_users_own_file(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        with pytest.raises(RunFailed) as caught:
            run(project.broken(), workspace=workspace, target="cluster")
        assert f'File "{project.__file__}"' in caught.value.run.step("fails").failure.traceback


def test_a_consumer_of_a_large_value_runs_on_the_worker_that_made_it(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        assert run(project.chains(), workspace=workspace, target="cluster").output() == [True] * 7


def test_a_worker_that_is_busy_does_not_keep_consumers_of_what_it_made_from_another(project, tmp_path):
    (tmp_path / "marks").mkdir()
    with Workspace.open(tmp_path / "workspace") as workspace:
        done = run(project.fan.options(timeout_s=30)(str(tmp_path / "marks")), workspace=workspace, target="cluster")
        assert len(set(done.output())) == 2


def test_what_a_step_says_and_uses_is_known_within_two_seconds(project, tmp_path):
    (tmp_path / project.__package__ / "talks.py").write_text(TALKER)
    talks = importlib.import_module(f"{project.__package__}.talks").talks
    with Workspace.open(tmp_path / "workspace") as workspace:
        done, lines = told(workspace, lambda: run(talks(), workspace=workspace.folder, target="cluster"))
        check_told(done, lines)
        assert done.step("talk").target == "cluster"


def identities(done):
    return {one.node: (one.key, one.artifact.identity) for one in done.steps}
