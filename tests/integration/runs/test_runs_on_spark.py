"""One pipeline here and on Spark: equal results, reused across them; steps that use Spark themselves beside others."""

import importlib
import json
import sys
import textwrap

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
"""


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    package = f"spark_flow_{abs(hash(request.node.name))}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rates.py").write_text("RATE = 3\n")
    (folder / "flow.py").write_text(textwrap.dedent(FLOW.format(package=package)))
    (tmp_path / "pipes.toml").write_text(
        f'[targets.spark]\nmaster = "local[2]"\nconf = {json.dumps(spark_cluster.CONF).replace(":", " =", 1)}\nconnect_timeout = 300\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(f"{package}.flow")
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


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


def test_code_comes_from_the_snapshot_and_a_failure_names_the_users_own_file(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        with pytest.raises(RunFailed) as caught:
            run(project.broken(), workspace=workspace, target="spark")
        done = caught.value.run
        assert done.step("place").output().endswith(project.__file__)
        assert done.step("place").output() != project.__file__
        assert f'File "{project.__file__}"' in done.step("fails").failure.traceback


def test_a_step_with_a_session_runs_beside_others_and_its_result_is_reused_without_spark(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        done = run(project.counted(), workspace=workspace, target="spark")
        assert done.output() == "[('0', 5), ('1', 5)]"
        assert [(one.node, one.target) for one in done.steps] == [("digits", "spark"), ("report", "local")]
        again = run(project.counted(), workspace=workspace, target="spark")
        assert {str(one.status) for one in again.steps} == {"reused"}


def test_a_step_with_a_session_on_a_target_without_spark_is_an_error_before_anything_runs(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        for begin in (plan, run):
            with pytest.raises(ConfigurationError, match=r"'digits' takes a Spark session.*such as 'spark'"):
                begin(project.counted(), workspace=workspace, target="local")


def test_what_a_step_says_and_uses_is_known_within_two_seconds(project, tmp_path):
    (tmp_path / project.__package__ / "talks.py").write_text(TALKER)
    talks = importlib.import_module(f"{project.__package__}.talks").talks
    with Workspace.open(tmp_path / "workspace") as workspace:
        done, lines = told(workspace, lambda: run(talks(), workspace=workspace.folder, target="spark"))
        check_told(done, lines)
        assert done.step("talk").target == "spark"


def test_the_probe_tells_versions_and_that_values_go_there_and_back(project, tmp_path):
    with Workspace.open(tmp_path / "workspace") as workspace:
        report = workspace.compute.test("spark")
    assert not report.problem
    assert report.datastore
    assert not report.missing
    assert report.worker.startswith("spark/")


def identities(done):
    return {one.node: (one.key, one.artifact.identity) for one in done.steps}
