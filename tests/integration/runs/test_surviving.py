"""Runs survive what kills their processes: what is done is done, and is done once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from mlflow_pipes import Workspace
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

FLOW = """
import os, sys, time
from pathlib import Path
from mlflow_pipes import pipeline, run, step

@step
def work(number: int, effects: str, seconds: float, before: list[int]) -> int:
    time.sleep(seconds)
    with open(effects, "ab", buffering=0) as log:
        log.write(f"{number}\\n".encode())
    return number + sum(before)

@pipeline
def flow(effects: str, seconds: float = 0.05, width: int = 4, depth: int = 6):
    layer = []
    for level in range(depth):
        layer = [work(level * width + column, effects, seconds, layer) for column in range(width)]
    return layer

if __name__ == "__main__":
    run(flow(sys.argv[1], float(sys.argv[2])))
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "a project — ünïcode"
    folder.mkdir()
    (folder / "pipes.toml").write_text("[targets.local]\nworkers = 2\n", encoding="utf-8")
    (folder / "flow.py").write_text(FLOW, encoding="utf-8")
    return folder


def start(project, seconds=0.05):
    return subprocess.Popen(
        [sys.executable, "flow.py", str(project / "effects"), str(seconds)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def effects(project):
    file = project / "effects"
    return Counter(file.read_text().split()) if file.exists() else Counter()


def wait_for_effects(project, count, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while sum(effects(project).values()) < count:
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.01)


def finish(process):
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out.decode()


@pytest.mark.parametrize(
    ("either_ledger", "seed"), [("sqlite", 0), ("sqlite", 1), ("postgresql", 2)], indirect=["either_ledger"]
)
def test_a_run_killed_at_any_moment_goes_on_without_repeating_a_finished_step(either_ledger, project, seed):
    rng = random.Random(seed)
    for _ in range(2):
        process = start(project)
        wait_for_effects(project, sum(effects(project).values()) + rng.randrange(1, 6))
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        with Workspace.open(project) as workspace:
            killed = workspace.runs.get("latest")
            assert killed.status == "interrupted"
            done = {step.node for step in killed.steps if step.status.good}
            before = effects(project)
    finish(start(project))
    with Workspace.open(project) as workspace:
        last = workspace.runs.get("latest")
        assert last.status == "succeeded"
        assert done <= {step.node for step in last.steps if step.reused}
    repeated = {number for number, times in effects(project).items() if times > before[number] and before[number]}
    # It may have happened just before the kill and not be recorded yet: what ran, and what had just ended before that.
    assert len(repeated) <= 4


def test_workers_die_with_their_orchestrator(project):
    process = start(project, seconds=90)
    deadline = time.monotonic() + 60
    while len(members(process.pid)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = members(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while alive := [pid for pid in started if is_running(pid)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.05)


def members(pid):
    """Return the pids of a process and all below it."""
    import psutil

    try:
        parent = psutil.Process(pid)
        return {pid, *(child.pid for child in parent.children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


def is_running(pid):
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("either_ledger")
def test_two_runs_started_together_do_each_step_once(project):
    both = [start(project), start(project)]
    for process in both:
        finish(process)
    assert set(effects(project).values()) == {1}
    with Workspace.open(project) as workspace:
        runs = workspace.runs.list()
        assert [run.status for run in runs] == ["succeeded", "succeeded"]
        ran = Counter(step.node for run in runs for step in run.steps if not step.reused)
        assert set(ran.values()) == {1}


@pytest.mark.usefixtures("either_ledger")
def test_what_a_killed_run_was_computing_is_taken_over_at_once(project):
    (project / "flow.py").write_text(FLOW.replace("width: int = 4", "width: int = 2"), encoding="utf-8")
    killed = start(project, seconds=90)
    wait_for_running_steps(project, 2)
    other = start(project, seconds=90)
    with Workspace.open(project) as workspace:
        owner = workspace.runs.get("latest")

        def waits():
            newest = workspace.runs.get("latest")
            return sum((one.reason or "").startswith(f"waits for run {owner.id[:8]}") for one in newest.steps) == 2

        wait_until(waits)
        killed.kill()
        killed.communicate()
        died = time.monotonic()
        wait_for_running_steps(project, 2)
        assert time.monotonic() - died < 20.0  # below the lease of 30 s
        os.kill(other.pid, signal.SIGINT)
        other.communicate(timeout=30)
        assert [run.status for run in workspace.runs.list()] == ["cancelled", "interrupted"]


def wait_for_running_steps(project, count, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    with Workspace.open(project) as workspace:
        while True:
            runs = workspace.runs.list(limit=1)
            if runs and sum(step.status == "running" for step in runs[0].steps) >= count:
                return
            assert time.monotonic() < deadline, "no step runs"
            time.sleep(0.05)


@pytest.mark.parametrize("whom", ["worker", "zygote"])
def test_a_step_whose_process_is_killed_is_tried_again(project, whom):
    """Every step may be tried three times; each effect stands once for each success."""
    (project / "flow.py").write_text(FLOW.replace("@step", "@step(retries=3)"), encoding="utf-8")
    process = start(project, seconds=0.3)
    for _ in range(3):
        wait_for_effects(project, sum(effects(project).values()) + 1)
        children = sorted(members(process.pid) - {process.pid})
        victims = children[1:] if whom == "worker" else children[:1]
        for victim in victims[-1:]:
            os.kill(victim, signal.SIGKILL)
    finish(process)
    assert len(effects(project)) == 24
    assert sum(effects(project).values()) <= 24 + 6  # an effect may come before its success is told
    with Workspace.open(project) as workspace:
        assert workspace.runs.get("latest").status == "succeeded"


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.06, 0.15])
def test_ctrl_c_twice_ends_at_once_with_nothing_left(project, pause_s):
    process = start(project, seconds=90)
    wait_for_running_steps(project, 2)
    started = members(process.pid)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(pause_s)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode in {-signal.SIGINT, 1, 130}
    assert b"Bad file descriptor" not in out
    deadline = time.monotonic() + 30
    while alive := [pid for pid in started if is_running(pid)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.05)
    with Workspace.open(project) as workspace:
        assert workspace.runs.get("latest").status in {"cancelled", "interrupted"}


def test_ctrl_c_cancels_cleanly_and_soon(project):
    process = start(project, seconds=90)
    wait_for_running_steps(project, 2)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)  # two seconds are promised; this machine may be busy
    assert process.returncode != 0
    with Workspace.open(project) as workspace:
        cancelled = workspace.runs.get("latest")
        assert cancelled.status == "cancelled"
        assert {step.status.value for step in cancelled.steps} == {"cancelled"}


@pytest.mark.usefixtures("either_ledger")
def test_a_run_is_cancelled_from_another_process(project):
    process = start(project, seconds=90)
    deadline = time.monotonic() + 60
    with Workspace.open(project) as workspace:
        while not workspace.runs.list(limit=1):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workspace.runs.cancel("latest")
        process.communicate(timeout=20)
        assert workspace.runs.get("latest").status == "cancelled"
