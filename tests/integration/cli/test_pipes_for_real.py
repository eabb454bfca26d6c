"""The command line as a user has it: processes, files, signals. Each start costs, so one workspace serves many tests."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from mlflow_pipes import Workspace

pytestmark = pytest.mark.integration

FLIGHTS = '''
import time
from mlflow_pipes import current_run, pipeline, step

OFFSET = 1


def shifted(x: int) -> int:
    return x + OFFSET


@step
def load(n: int) -> list[int]:
    print("loading", n)
    return list(range(n))


@step
def train(rows: list[int], depth: int) -> float:
    return sum(shifted(row) for row in rows) / depth


@step
def choose(scores: list[float]) -> float:
    return max(scores)


@step
def check(score: float) -> float:
    limits = {}
    return limits["upper"] - score


@step
def sleep(seconds: float) -> float:
    print("sleeping", flush=True)
    time.sleep(seconds)
    return seconds


@pipeline
def flights(n: int = 5, depths: tuple[int, ...] = (4, 8), strict: bool = False):
    """Learn delays.

    Args:
        n: rows to load.
    """
    rows = load(n)
    best = choose([train(rows, depth) for depth in depths])
    return check(best) if strict else best


@pipeline
def nap(seconds: float = 60.0):
    return sleep(seconds)
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "pipes.toml").write_text("[targets.local]\nworkers = 2\n")
    (folder / "flights.py").write_text(FLIGHTS)
    return folder


def environ():
    return {**os.environ, "PIPES_DISPLAY": "plain", "NO_COLOR": "1", "COLUMNS": "120"}


def start(project, *words, **more):
    command = [sys.executable, "-c", "from mlflow_pipes.cli import main; main()", *words]
    return subprocess.Popen(
        command, cwd=project, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


@contextmanager
def running(project, *words, **more):
    """A command under way, ended whatever the test finds."""
    with start(project, *words, **more) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def pipes(project, *words, code=0):
    process = start(project, *words)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, f"{words} ended with {process.returncode}\n{out}\n{err}"
    return out, err


def test_a_day_with_a_pipeline(project):
    out, err = pipes(project, "run", "flights.py:flights", "--depths", "4,8,16", "--tag", "who=test", "--json")
    first = json.loads(out)
    assert first["status"] == "succeeded"
    assert first["tags"] == {"who": "test"}
    assert {step["status"] for step in first["steps"]} == {"succeeded"}
    assert "load │ loading 5" in err
    assert "5 ran" in err

    out, _ = pipes(project, "run", "flights.py:flights", "--depths", "4,8,16", "--json", "--quiet")
    second = json.loads(out)
    assert all(step["reused"] for step in second["steps"])

    file = project / "flights.py"
    file.write_text(file.read_text().replace("OFFSET = 1", "OFFSET = 2"))
    plan = json.loads(pipes(project, "plan", "flights.py:flights", "--depths", "4,8,16", "--json")[0])
    actions = {step["node"]: step["action"] for step in plan["steps"]}
    assert actions["load"] == "reuse"
    assert actions["train[depth=4]"] == "run"
    assert actions["choose"] == "maybe-run"
    assert "constant flights.OFFSET changed" in pipes(project, "plan", "flights.py:flights", "--depths", "4,8,16")[0]

    pipes(project, "run", "flights.py:flights", "--depths", "4,8,16", "--quiet")
    told, _ = pipes(project, "explain", "train[depth=4]")
    assert "flights.OFFSET" in told
    assert "flights.train → flights.shifted → flights.OFFSET" in told

    runs = json.loads(pipes(project, "runs", "--json")[0])
    assert [run["status"] for run in runs] == ["succeeded"] * 3
    assert runs[0]["steps"] == {"succeeded": 4, "reused": 1}
    shown, _ = pipes(project, "show", runs[0]["id"][:10])
    assert re.search(r"✓ train\[depth=4\] +succeeded", shown)
    lines = [json.loads(line) for line in pipes(project, "logs", first["id"], "load", "--json")[0].splitlines()]
    assert [(line["node"], line["text"]) for line in lines] == [("load", "loading 5")]


def test_a_failing_step_shows_the_users_line_and_ends_with_1(project):
    _, err = pipes(project, "run", "flights.py:flights", "--strict", code=1)
    place = FLIGHTS.splitlines().index('    return limits["upper"] - score') + 1
    assert f"flights.py:{place} in check" in err
    assert 'return limits["upper"] - score' in err
    assert "KeyError: 'upper'" in err
    assert "mlflow_pipes/" not in err
    log, _ = pipes(project, "logs", "latest", "check")
    assert "Traceback (most recent call last)" in log


def test_errors_of_the_user_have_words_and_codes_but_no_traceback(project):
    with Workspace.open(project / ".pipes"):
        pass
    for words, code, said in [
        (("run", "flights.py:flihgts"), 4, "did you mean 'flights'"),
        (("run", "flights.py"), 2, "declares 2 pipelines"),
        (("run", "flights.py:flights", "--depths", "x"), 2, "'x' is not a whole number"),
        (("show", "zzz"), 4, "there is no run 'zzz'"),
    ]:
        _, err = pipes(project, *words, code=code)
        assert said in err
        assert "Traceback" not in err


def test_a_look_at_a_workspace_that_is_not_there_makes_none(project, monkeypatch):
    monkeypatch.delenv("PIPES_LEDGER", raising=False)  # where it is elsewhere a workspace may begin in any folder
    _, err = pipes(project, "runs", "--workspace", "nowhere", code=4)
    assert "no workspace at" in err
    assert not (project / "nowhere").exists()


def wait_for_line(process, text):
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return
    raise AssertionError(f"{text!r} never came; instead:\n{said}")


def test_ctrl_c_cancels_the_run_and_ends_with_130(project):
    with running(project, "run", "flights.py:nap", "--seconds", "61") as process:
        wait_for_line(process, "sleeping")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)  # two seconds are promised; this machine may be busy
        assert process.returncode == 130, err
        assert "cancelled" in err


def test_another_process_cancels_a_run_which_ends_with_3(project):
    with running(project, "run", "flights.py:nap", "--seconds", "62") as process:
        wait_for_line(process, "sleeping")
        out, _ = pipes(project, "cancel", "latest", "--wait", "60", "--json")
        assert json.loads(out)["status"] == "cancelled"
        process.communicate(timeout=60)
        assert process.returncode == 3


def test_logs_are_followed_until_the_run_ends(project):
    with running(project, "run", "flights.py:nap", "--seconds", "1.5") as process:
        wait_for_line(process, "sleeping")
        out, _ = pipes(project, "logs", "-f")
        assert "sleeping" in out
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_help_costs_less_than_300_ms_of_processor_time(project):
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    costs = []
    for _ in range(3):
        pipes(project, "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        before = after
    assert min(costs) < 0.3


def test_the_doctor_finds_nothing_wrong(project):
    checks = json.loads(pipes(project, "doctor", "--json")[0])
    assert not [check for check in checks if check["verdict"] == "fail"]
