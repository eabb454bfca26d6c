"""Parts of a run that are stopped from another process, and work that two runs want."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_pipes import Workspace
from mlflow_pipes.errors import NotFoundError

pytestmark = pytest.mark.integration

FLOW = """
import time
from pathlib import Path
from mlflow_pipes import current_run, pipeline, step

@step
def nap(name: str, seconds: float) -> str:
    for beat in range(int(20 * seconds)):
        if Path(__file__).with_name("woken").exists():
            break
        if beat % 4 == 0:
            print(f"{name} beats {beat}", flush=True)
            current_run().progress(beat, 20 * seconds, "asleep")
        time.sleep(0.05)
    return name

@step
def after(name: str) -> str:
    return name

@step
def many(seconds: float) -> list[str]:
    return [nap(name, seconds) for name in ("a", "b")]

@pipeline
def inner(seconds: float):
    return after(nap("inner", seconds))

@pipeline
def naps(seconds: float = 60.0):
    return after(nap("one", seconds)), many(seconds), inner(seconds), nap("short", 3.0)

@pipeline
def shared(seconds: float = 10.0):
    return nap("shared", seconds)
"""


@pytest.fixture
def project(tmp_path, either_ledger):
    (tmp_path / "flow.py").write_text(FLOW, encoding="utf-8")
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 6\ncpus = 6\n", encoding="utf-8")
    return tmp_path


def begin(project, *words):
    return subprocess.Popen(
        [Path(sys.executable).with_name("pipes"), *words],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PIPES_DISPLAY": "plain"},
    )


def pipes(project, *words, code=0):
    process = begin(project, *words)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code, out
    return out


def wait_for(workspace, condition, timeout_s=60.0):
    """Wait until the newest run is as wanted, and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = workspace.runs.list(limit=1)
        if found and condition(found[0]):
            return found[0]
        assert time.monotonic() < deadline, found and [(one.node, one.status.value) for one in found[0].steps]
        time.sleep(0.05)


def running(*nodes):
    return lambda run: {one.node for one in run.steps if one.status == "running"} >= set(nodes)


@pytest.mark.usefixtures("sqlite_alone")
def test_steps_and_what_stands_in_them_are_stopped_and_the_others_go_on(project):
    process = begin(project, "run", "flow.py:naps")
    with Workspace.open(project) as workspace:
        nodes = {"nap[name=one, seconds=60.0]", "many/nap[name=a]", "many/nap[name=b]", "inner/nap"}
        run = wait_for(workspace, running(*nodes))
        with pytest.raises(NotFoundError, match="did you mean 'many'"):
            run.cancel("mani")
        with pytest.raises(NotFoundError, match="steps 'nap'; say which: 'nap"):
            workspace.runs.cancel("latest", "nap")
        asked = time.time()
        for part in ("many", "inner", "nap[name=one, seconds=60.0]"):
            run.cancel(part, reason="the data are wrong")
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 3, out
        ended = workspace.runs.get(run.id)
        status = {one.node: one.status.value for one in ended.children}
        assert status.pop("nap[name=short, seconds=3.0]") == "succeeded"
        assert {node for node, now in status.items() if now == "skipped"} == {"after"}
        assert {node for node, now in status.items() if now == "cancelled"} == {*nodes, "many", "inner", "inner/after"}
        stopped = [one for one in ended.steps if one.status == "cancelled"]
        assert {one.reason for one in stopped} == {"the data are wrong"}
        assert max(one.ended_at for one in stopped).timestamp() - asked < 20.0  # of sixty
        assert "the data are wrong" in out
        assert workspace.runs.cancel(run.id, "many").status == "cancelled"
    assert "many had already ended: cancelled" in pipes(project, "cancel", "latest", "many")
    assert "had already ended: cancelled" in pipes(project, "cancel", "latest")


@pytest.mark.usefixtures("sqlite_alone")
def test_the_command_stops_parts_and_waits_for_their_end(project):
    process = begin(project, "run", "flow.py:naps")
    with Workspace.open(project) as workspace:
        wait_for(workspace, running("many/nap[name=a]", "inner/nap"))
    told = json.loads(pipes(project, "cancel", "latest", "many", "inner/nap", "--wait", "60", "--json"))
    assert told["steps"] == [
        {"node": "many", "status": "cancelled"},
        {"node": "inner/nap", "status": "cancelled"},
    ]
    assert told["status"] == "running"
    told = pipes(project, "cancel", "latest", "--reason", "enough", "--wait", "60")
    assert "has stopped: cancelled" in told
    process.communicate(timeout=60)
    assert "message     enough" in pipes(project, "show")


@pytest.mark.usefixtures("sqlite_alone")
def test_a_run_that_waits_for_anothers_work_says_so_and_shows_its_lines(project):
    words = ("run", "flow.py:shared", "--seconds", "90")
    first = begin(project, *words)
    with Workspace.open(project) as workspace:
        owner = wait_for(workspace, running("nap"))
        second = begin(project, *words)
        waiter = wait_for(workspace, lambda run: run.id != owner.id and any(one.reason for one in run.steps))
        assert waiter.step("nap").status == "looking-up"
        assert waiter.step("nap").reason.startswith(f"waits for run {owner.id[:8]} on ")
        following = begin(project, "logs", "-f", waiter.id, "nap", "--json")
        shown = []
        while sum(" beats " in line for line in shown) < 2:
            shown.append(next(following.stdout))
        (project / "woken").touch()
        rest, _ = following.communicate(timeout=60)
        lines = [json.loads(line) for line in [*shown, *rest.splitlines()]]
    told, _ = second.communicate(timeout=60)
    first.communicate(timeout=60)
    assert f"waits for run {owner.id[:8]} on " in told
    assert "reused" in told
    of_owner = [line for line in lines if line["run"] == owner.id]
    assert [line["text"] for line in of_owner if line["stream"] == "stdout"][:2] == ["shared beats 0", "shared beats 4"]
    assert any(line["text"].endswith("of 1800 asleep") for line in of_owner if line["stream"] == "progress")
    assert f"waits for run {owner.id[:8]}" in "".join(line["text"] for line in lines if line["run"] == waiter.id)


def test_what_a_cancelled_run_was_computing_is_taken_over_at_once_by_who_waits_for_it(project):
    first = begin(project, "run", "flow.py:shared")
    with Workspace.open(project) as workspace:
        owner = wait_for(workspace, running("nap"))
        second = begin(project, "run", "flow.py:shared")
        waiter = wait_for(workspace, lambda run: run.id != owner.id and any(one.reason for one in run.steps))
        owner.cancel()
        first.communicate(timeout=60)
        assert first.returncode == 3
        ended_at = workspace.runs.get(owner.id).ended_at
        told, _ = second.communicate(timeout=60)
        done = workspace.runs.get(waiter.id)
        note = f"run {owner.id[:8]} ended without its result, so it is computed here"
        assert done.status == "succeeded"
        assert done.step("nap").reason == note
        assert note in told
        assert (done.step("nap").started_at - ended_at).total_seconds() < 20.0  # below the lease
