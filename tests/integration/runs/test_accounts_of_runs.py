"""What ``diff``, ``explain`` and the critical path say of real runs, also of one that another process is doing."""

import json
import os
import subprocess
import sys
import time

import pytest

from mlflow_pipes import Workspace, diff, explain, pipeline, run, simulate, step
from mlflow_pipes.cli.app import run as app_run

pytestmark = pytest.mark.integration

PROGRAM = """
import time
from pathlib import Path

from mlflow_pipes import RetryPolicy, current_run, pipeline, run, step


def until(file: str) -> None:
    for _ in range(3000):
        if Path(file).exists():
            return
        time.sleep(0.01)


@step
def hold(file: str, n: int) -> int:
    until(file)
    return n


@step(retries=RetryPolicy(count=1, delay_s=60.0))
def flaky(n: int) -> int:
    raise ConnectionError("not yet")


@step
def last(values: list[int], other: int) -> int:
    return sum(values) + other


@pipeline(fail_fast=False)
def held(file: str, flaky_too: bool = True):
    holds = [hold(file, n) for n in range(3)]
    return last(holds, flaky(1) if flaky_too else 0)


if __name__ == "__main__":
    import sys

    run(held(sys.argv[1], sys.argv[2] == "flaky"), observers=(), raise_on_failure=False)
"""


@step
def number(n: int) -> int:
    return n


@step
def moment(n: int) -> float:
    return time.time() + n


@step
def parity(n: int) -> int:
    return n % 2


@step
def after(n: int, m: float) -> float:
    return n + 0 * m


@pipeline
def numbers(n: int = 1):
    one = number(n)
    return after(parity(one), moment(5))


@pipeline
def another():
    return number(1)


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 2\n")
    with Workspace.open(tmp_path) as opened:
        yield opened


def go(call, workspace):
    return run(call, workspace=workspace, observers=())


def test_diff_tells_what_became_of_each_step(workspace):
    first = go(numbers(1), workspace)
    second = go(numbers(3), workspace)
    found = diff(first, second.id[:12], workspace=workspace)
    assert {one.node: one.fate for one in found.steps} == {
        "number": "changed", "parity": "changed", "moment": "reused", "after": "reused",
    }  # fmt: skip
    assert not found.step("parity").output_changed
    assert found.step("parity").came_from == {"n": ("number",)}
    assert [(one.name, one.before, one.after) for one in found.parameters] == [("n", "1", "3")]
    assert found.unstable == ()
    assert diff(first, first, workspace=workspace).parameters == ()


def test_a_step_that_is_no_function_of_its_inputs_is_found_out(tmp_path):
    (tmp_path / "pipes.toml").write_text("")
    with Workspace.open(tmp_path) as workspace:
        first = go(numbers(1), workspace)
        entries = workspace.ledger
        from mlflow_pipes.model.run import EntryForgotten

        entries.exchange([EntryForgotten(first.step("moment").key)], [], time.time())
        go(numbers(1), workspace)
        found = diff(first, workspace=workspace)
        assert [one.node for one in found.unstable] == ["moment"]
        assert found.step("after").came_from == {"m": ("moment",)}


def test_the_critical_path_of_a_run_ends_with_its_last_step(workspace):
    done = go(numbers(1), workspace)
    path = done.critical_path
    last = max(one.ended_at for one in done.steps)
    assert path[-1].end == pytest.approx(last.timestamp())
    whole = last.timestamp() - done.started_at.timestamp()
    assert sum(link.took_s + link.waited_s for link in path) == pytest.approx(whole, abs=1e-3)


def test_explain_tells_where_it_ran_and_what_reuse_saved(workspace):
    first = go(numbers(1), workspace)
    told = explain("number", workspace=workspace)
    assert told.placement == "on local, where the run puts steps that name no target"
    assert told.saved_s is None
    go(numbers(1), workspace)
    again = explain("number", workspace=workspace)
    assert again.saved_s == pytest.approx(first.step("number").duration_s, abs=1e-3)
    assert again.placement == ""


def test_what_is_known_is_left_out_of_a_forecast(workspace):
    go(numbers(1), workspace)
    told = simulate(numbers(1), workspace=workspace)
    assert (told.reused, told.makespan_s, sum(told.sources.values())) == (4, 0.0, 0)
    other = simulate(numbers(2), workspace=workspace, targets={"local": 8})
    assert (other.reused, other.perhaps) == (1, 2)
    assert len(workspace.runs.list()) == 1, "nothing was run for a forecast"


def eventually(ask, wanted):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = ask()
        if wanted(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within a minute: {found}")


def test_why_a_step_waits_is_told_while_its_run_is_under_way_in_another_process(workspace, tmp_path):
    (tmp_path / "held.py").write_text(PROGRAM)
    gate = tmp_path / "gate"
    command = [sys.executable, "held.py", str(gate)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen([*command, "flaky"], cwd=tmp_path, env=environ)
    second = None
    try:
        mine = eventually(workspace.runs.list, bool)[0].id

        def kinds(node, run):
            return [(wait.kind, wait.until is None) for wait in explain(node, run=run, workspace=workspace).waits]

        eventually(lambda: kinds("last", mine), lambda found: found == [("inputs", True)])
        eventually(lambda: kinds("hold[n=2]", mine), lambda found: ("room", True) in found)
        eventually(lambda: explain("hold[n=2]", run=mine, workspace=workspace).waits[-1].on, lambda on: len(on) == 2)
        second = subprocess.Popen([*command, "steady"], cwd=tmp_path, env=environ)
        other = eventually(workspace.runs.list, lambda runs: len(runs) == 2)[0].id
        held = eventually(
            lambda: explain("hold[n=0]", run=other, workspace=workspace).waits,
            lambda waits: bool(waits and waits[-1].on),
        )
        assert (held[-1].kind, held[-1].until, held[-1].on) == ("key", None, (mine,))
        gate.touch()
        eventually(lambda: kinds("flaky", mine), lambda found: ("retry", True) in found)
        eventually(lambda: workspace.runs.get(other), lambda found: found.status.ended)
        assert [(wait.kind, wait.on) for wait in explain("hold[n=0]", run=other, workspace=workspace).waits] == [
            ("key", (mine,))
        ]
        assert workspace.runs.get(mine).critical_path
    finally:
        for process in (first, second):
            if process is not None:
                process.terminate()
                process.wait(30)


@step
def part(n: int) -> int:
    time.sleep(0.1 * n)
    return n


@step
def spread(n: int) -> list[int]:
    return [part(i) for i in range(1, n + 1)]


@step
def total(values: list[int]) -> int:
    return sum(values)


@pipeline
def grown(n: int = 3):
    return total(spread(n))


def test_the_critical_path_goes_through_the_calls_that_a_step_returned(tmp_path):
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 1\n")
    with Workspace.open(tmp_path) as workspace:
        done = go(grown(), workspace)
        path = done.critical_path
        nodes = [link.node for link in path]
        assert (nodes[0], nodes[-1]) == ("spread", "total")
        assert sorted(nodes[1:-1]) == ["spread/part[n=1]", "spread/part[n=2]", "spread/part[n=3]"]
        assert [link.after for link in path] == [None, *nodes[:-1]]
        assert [link.because for link in path] == ["start", "input", "room", "room", "input"]
        whole = max(one.ended_at for one in done.steps).timestamp() - done.started_at.timestamp()
        assert sum(link.took_s + link.waited_s for link in path) == pytest.approx(whole, abs=1e-3)
        waits = {wait.kind: wait.on for wait in explain(nodes[-2], workspace=workspace).waits}
        assert waits["room"] == (nodes[-3],)
        assert explain("total", workspace=workspace).waits[0].on == ("spread",)


def test_the_commands_tell_scripts_the_same(workspace, capsys):
    first = go(numbers(1), workspace)
    second = go(numbers(3), workspace)
    folder = str(workspace.folder)

    def told(*words):
        assert app_run([*words, "--workspace", folder, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    differing = told("diff", first.id, second.id)
    assert {one["node"]: one["fate"] for one in differing["steps"]}["number"] == "changed"
    assert differing["parameters"] == [{"name": "n", "before": "1", "after": "3"}]
    assert told("diff", first.id) == told("diff") == differing
    path = told("show", first.id, "--critical-path")["critical_path"]
    assert path == told("show", first.id, "--critical-path")["critical_path"]
    assert path[-1]["node"] == "after"
    told_of = told("explain", second.id, "moment")
    assert told_of["saved_s"] == pytest.approx(first.step("moment").duration_s, abs=1e-3)
    assert (told_of["placement"], told_of["failures"], told_of["target"]) == ("", [], None)


def test_the_first_run_of_a_pipeline_has_none_before_it(workspace, capsys):
    go(another(), workspace)
    only = go(numbers(1), workspace)
    assert app_run(["diff", "--workspace", str(workspace.folder)]) == 4
    assert f"run {only.id[:8]} is the first of 'numbers': there is none before it" in capsys.readouterr().err


def test_the_commands_tell_people_the_same(workspace, capsys):
    first = go(numbers(1), workspace)
    second = go(numbers(3), workspace)
    folder = str(workspace.folder)

    def told(*words):
        assert app_run([*words, "--workspace", folder]) == 0
        return capsys.readouterr().out

    text = told("diff", first.id[:12], second.id[:12])
    assert "steps: 2 changed, 2 reused" in text
    assert "input n changed: 1 → 3" in text
    assert "input n changed: the output of number" in text
    assert "parity changed, but its output came out the same" in text
    assert app_run(["explain", "latest", "moment", "more", "--workspace", folder]) == 2
    assert "a RUN and a STEP are two words, not 3" in capsys.readouterr().err
    assert "critical path: " in told("show", first.id, "--critical-path")
    assert "which it took then" in told("explain", second.id, "moment")
