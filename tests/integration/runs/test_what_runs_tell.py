"""What a run on this machine tells while it goes on, and what is kept of it."""

import importlib
import json
import sqlite3
import sys

import pytest

from mlflow_pipes import Workspace, run
from mlflow_pipes.cli import app
from mlflow_pipes.workspace.publishing import sync
from tests.told import TALKER, check_told, told

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ledger_in_workspace")]


@pytest.fixture(scope="module")
def talked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    (folder / "talks_here.py").write_text(TALKER)
    sys.path.insert(0, str(folder))
    talks = importlib.import_module("talks_here").talks
    with Workspace.open(folder / "workspace") as workspace:
        yield (workspace, *told(workspace, lambda: run(talks(), workspace=folder / "workspace")))
    sys.path.remove(str(folder))


@pytest.fixture
def shown(talked, capsys):
    def shown(*arguments):
        capsys.readouterr()
        assert app.run(["show", *arguments, "--workspace", str(talked[0].folder)]) == 0
        return capsys.readouterr().out

    return shown


def test_lines_and_progress_are_there_within_two_seconds_and_in_order(talked):
    _, done, lines = talked
    check_told(done, lines)


def test_what_a_step_used_is_shown(talked, shown):
    _, done, _ = talked
    text = shown(done.id, "talk")
    assert "cpu " in text
    assert "memory " in text
    record = json.loads(shown(done.id, "talk", "--json"))
    assert record["usage"]["peak_memory_bytes"] > 100_000_000
    assert record["samples"][0]["attempt"] == 1


def test_mlflow_shows_it_as_system_metrics(talked):
    workspace, done, _ = talked
    sync(workspace.folder)
    with sqlite3.connect(workspace.folder / "mlflow" / "mlflow.db") as database:
        query = "SELECT DISTINCT key FROM metrics WHERE run_uuid = ?"
        keys = {key for (key,) in database.execute(query, [done.step("talk").id])}
    assert keys >= {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}


def test_what_a_step_in_this_process_uses_is_told_too(talked):
    workspace, _, _ = talked
    done = run(sys.modules["talks_here"].talks(2.8), workspace=workspace, target="inline")
    (sample,) = done.step("talk").usage
    assert sample.memory_bytes > 100_000_000
    assert 0 <= sample.cpus < 2
