"""One pipeline here and on a machine by ssh: equal results, reused across them, from the same configuration file."""

import importlib
import sys
import textwrap

import pytest

from mlflow_pipes import RunFailed, Workspace, run
from tests import ssh_server
from tests.told import TALKER, check_told, told

pytestmark = pytest.mark.integration

FLOW = """
from pathlib import Path

import pandas as pd
from mlflow_pipes import current_run, pipeline, step

from {package}.rates import RATE


@step
def flights(rows: int) -> pd.DataFrame:
    return pd.DataFrame({{"delay": range(rows), "carrier": ["a", "b"] * (rows // 2)}})

@step
def scaled(table: pd.DataFrame, by: int) -> pd.DataFrame:
    current_run().log("factor", by)
    return table.assign(delay=table.delay * by * RATE)

@step
def totals(tables: list[pd.DataFrame]) -> dict[str, int]:
    return {{name: int(part.delay.sum()) for name, part in pd.concat(tables).groupby("carrier")}}

@step
def written(sums: dict[str, int]) -> Path:
    folder = current_run().scratch / "report"
    (folder / "inner").mkdir(parents=True)
    for name, amount in sums.items():
        (folder / "inner" / name).write_text(str(amount))
    return folder

@step
def read(folder: Path) -> str:
    return ",".join(file.read_text() for file in sorted((folder / "inner").iterdir()))

@step
def deeper(depth: int) -> int:
    return deeper(depth - 1) if depth else 7

@step
def fails(rows: int) -> int:
    raise ValueError("too late")

@pipeline
def delays(rows: int = 10):
    table = flights(rows)
    return read(written(totals([scaled(table, by) for by in range(3)]))), deeper(2)

@pipeline
def broken(rows: int = 1):
    return fails(rows)
"""


@pytest.fixture(scope="module")
def server():
    if reason := ssh_server.missing():
        pytest.skip(reason)
    server = ssh_server.Server()
    yield server
    server.remove()


@pytest.fixture
def project(tmp_path, monkeypatch, server, request):
    package = f"ssh_flow_{abs(hash(request.node.name))}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rates.py").write_text("RATE = 3\n")
    (folder / "flow.py").write_text(textwrap.dedent(FLOW.format(package=package)))
    keys = "".join(f"{key} = {value!r}\n" for key, value in server.options(python=sys.executable, workers=2).items())
    (tmp_path / "pipes.toml").write_text(f'[targets.vm]\ntype = "ssh"\n{keys}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(f"{package}.flow")
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


@pytest.mark.usefixtures("ledger_in_workspace")
def test_a_pipeline_gives_equal_results_on_both_and_what_one_computed_is_reused_on_the_other(project, tmp_path):
    with Workspace.open(tmp_path / "first") as first, Workspace.open(tmp_path / "second") as second:
        local = run(project.delays(), workspace=first, target="local")
        elsewhere = run(project.delays(), workspace=second, target="vm")
        assert elsewhere.output() == local.output()
        assert identities(elsewhere) == identities(local)
        assert {one.target for one in elsewhere.steps if one.target} == {"vm"}
        for workspace, other in ((first, "vm"), (second, "local")):
            again = run(project.delays(), workspace=workspace, target=other)
            assert {str(one.status) for one in again.steps} == {"reused"}


def test_a_failure_there_names_the_users_own_file(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        with pytest.raises(RunFailed) as caught:
            run(project.broken(), workspace=workspace, target="vm")
        assert f'File "{project.__file__}"' in caught.value.run.step("fails").failure.traceback


def test_what_a_step_there_says_and_uses_is_known_within_two_seconds(project, tmp_path):
    (tmp_path / project.__package__ / "talks.py").write_text(TALKER)
    talks = importlib.import_module(f"{project.__package__}.talks").talks
    with Workspace.open(tmp_path / "workspace") as workspace:
        done, lines = told(workspace, lambda: run(talks(), workspace=workspace.folder, target="vm"))
        check_told(done, lines)
        assert done.step("talk").target == "vm"


def identities(done):
    return {one.node: (one.key, one.artifact.identity) for one in done.steps}
