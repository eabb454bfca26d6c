"""Processes that share tokens and targets through the ledger of one workspace, as users see them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, run
from mlflow_pipes.errors import ConfigurationError, DeclarationError, RunFailed
from mlflow_pipes.workspace.configuration import load
from mlflow_pipes.workspace.explanation import explain

pytestmark = pytest.mark.integration

CONFIGURATION = """
[targets.local]
workers = 3
[targets.together]
type = "local"
workers = 4
cpus = 2
gpus = 2
shared = true
[tokens]
database = 1
licence = 2
"""
PROGRAM = """
import os, sys, time
from pathlib import Path
from mlflow_pipes import Workspace, pipeline, run, step
from mlflow_pipes.workspace.configuration import load

HERE = Path(__file__).parent

def note(*words):
    with (HERE / "told.txt").open("a") as told:
        told.write(" ".join(map(str, words)) + "\\n")

@step(tokens="database", reuse="never")
def query(of: str, number: int, takes: float) -> int:
    began = time.time()
    note("began", of, number)
    time.sleep(takes)
    while (HERE / "hold").exists():
        time.sleep(0.01)
    note("span", of, number, began, time.time(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return number

@pipeline
def queries(of: str, count: int, takes: float = 0.05, target: str = "local", tokens: str = "database"):
    gpus = 1 if target == "together" else 0
    some = query.options(target=target, tokens={tokens: 1} if tokens else {}, gpus=gpus)
    return [some(of, number, takes) for number in range(count)]

if __name__ == "__main__":
    of, count, takes, priority, target, tokens = sys.argv[1:]
    while not (HERE / "go").exists():
        time.sleep(0.01)
    home = Workspace.open(HERE / ".pipes", configuration=load(HERE))
    run(queries(of, int(count), float(takes), target, tokens), workspace=home, observers=(), priority=int(priority))
    note("done", of, time.time())
"""


@pytest.fixture
def project(tmp_path, either_ledger, monkeypatch):
    (tmp_path / "pipes.toml").write_text(CONFIGURATION)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PIPES_WORKSPACE", str(tmp_path / ".pipes"))
    return tmp_path


@pytest.fixture
def on_sqlite(tmp_path, monkeypatch):
    (tmp_path / "pipes.toml").write_text(CONFIGURATION)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PIPES_WORKSPACE", str(tmp_path / ".pipes"))
    return tmp_path


@pytest.fixture
def players():
    """Processes that are killed at the end, however the test ends."""
    with ExitStack() as ended:

        def play(folder, of, count, takes=0.05, priority=0, target="local", tokens="database"):
            arguments = [of, count, takes, priority, target, tokens]
            errors = ended.enter_context((folder / f"{of}.err").open("w"))
            process = subprocess.Popen(
                [sys.executable, folder / "program.py", *map(str, arguments)], cwd=folder, stderr=errors
            )
            ended.callback(process.wait)
            ended.callback(process.kill)
            return process

        yield play


def go(folder):
    (folder / "go").touch()


def told(folder, word):
    path = folder / "told.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1:] for line in lines if line.split()[0] == word]


def wait_for(folder, word, count, within_s=60.0):
    deadline = time.monotonic() + within_s
    while len(told(folder, word)) < count:
        assert time.monotonic() < deadline, (
            (folder / "told.txt").read_text() if (folder / "told.txt").exists() else "nothing"
        )
        time.sleep(0.01)
    return told(folder, word)


def finish(folder, *processes):
    for process in processes:
        assert process.wait(timeout=120) == 0, [error.read_text() for error in folder.glob("*.err")]


def spans(folder):
    """Return (who, from, to) of each step, in the order in which they began."""
    return sorted(
        ((of, float(began), float(ended)) for of, _, began, ended, _ in told(folder, "span")), key=lambda one: one[1]
    )


def most_at_once(found):
    moments = sorted([(began, 1) for _, began, _ in found] + [(ended, -1) for _, _, ended in found])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most


# Tokens


def test_two_processes_that_share_one_token_never_use_it_at_the_same_time(project, players):
    both = [players(project, of, 6) for of in ("a", "b")]
    go(project)
    finish(project, *both)
    found = spans(project)
    assert len(found) == 12
    assert most_at_once(found) == 1


def test_of_two_tokens_two_are_used_at_once_and_no_more(on_sqlite, players):
    both = [players(on_sqlite, of, 8, 0.1, tokens="licence") for of in ("a", "b")]
    go(on_sqlite)
    finish(on_sqlite, *both)
    assert most_at_once(spans(on_sqlite)) == 2


def test_what_a_killed_run_held_is_free_at_once_for_others_on_this_machine(project, players):
    holder = players(project, "holder", 1, 600)
    go(project)
    wait_for(project, "began", 1)
    waiter = players(project, "waiter", 1)
    with Workspace.open(project / ".pipes", configuration=load(project)) as home:
        wait_until_short(home)
        killed_at = time.time()
        os.kill(holder.pid, signal.SIGKILL)
        finish(project, waiter)
    ((_, began, _),) = spans(project)
    assert began - killed_at < 20.0, "not the thirty seconds of a lease: on this machine its death is seen"


def wait_until_short(home):
    deadline = time.monotonic() + 60
    while not any("token" in (one.reason or "") for record in home.runs.list() for one in record.steps):
        assert time.monotonic() < deadline, [one for record in home.runs.list() for one in record.steps]
        time.sleep(0.05)


def test_a_run_of_larger_priority_goes_first(on_sqlite, players):
    low = players(on_sqlite, "low", 300, 0.2)
    go(on_sqlite)
    wait_for(on_sqlite, "began", 2)
    high = players(on_sqlite, "high", 5, 0.2, priority=1)
    finish(on_sqlite, high)
    done = float(told(on_sqlite, "done")[0][1])
    low.kill()
    found = [one for one in spans(on_sqlite) if one[2] <= done]
    first = next(index for index, (of, _, _) in enumerate(found) if of == "high")
    assert [of for of, _, _ in found[first:]].count("low") <= 1, (
        "but for one that may begin while the other makes ready"
    )


def test_two_runs_of_fifty_steps_share_a_token_evenly(on_sqlite, players):
    both = [players(on_sqlite, of, 50, 0.03, tokens="licence") for of in ("a", "b")]
    go(on_sqlite)
    finish(on_sqlite, *both)
    found = spans(on_sqlite)
    assert most_at_once(found) <= 2
    ends = {of: max(ended for who, _, ended in found if who == of) for of in ("a", "b")}
    begins = max(min(began for who, began, _ in found if who == of) for of in ("a", "b"))
    while_both = Counter(who for who, began, _ in found if begins <= began <= min(ends.values()))
    assert min(while_both.values()) >= 0.6 * max(while_both.values()), while_both


def test_a_wait_is_told_while_it_lasts_and_afterwards(on_sqlite, players):
    (on_sqlite / "hold").touch()
    holder = players(on_sqlite, "holder", 1)
    go(on_sqlite)
    wait_for(on_sqlite, "began", 1)
    waiter = players(on_sqlite, "waiter", 2)
    with Workspace.open(on_sqlite / ".pipes", configuration=load(on_sqlite)) as home:
        wait_until_short(home)
        held_by, waits_in = home.runs.list()[1], home.runs.list()[0]
        while (now := explain("query[number=0]", run=waits_in.id, workspace=home).waits[-1]).kind == "target":
            time.sleep(0.05)
        assert (now.kind, now.until) == ("tokens", None)
        assert now.on == (f"1 of token 'database': 1 of 1 are taken, by run {held_by.id[:8]}",)
        (on_sqlite / "hold").unlink()
        finish(on_sqlite, holder, waiter)
        ((_, _, held_until),) = (one for one in spans(on_sqlite) if one[0] == "holder")
        for number in (0, 1):
            after = explain(f"query[number={number}]", run=waits_in.id, workspace=home).waits[-1]
            assert (after.kind, after.on) == ("tokens", ("1 of token 'database'",))
            assert after.since < held_until <= after.until


# Shared targets


def test_processes_that_share_a_target_take_no_more_cpus_than_it_has_and_no_gpu_twice(on_sqlite, players):
    both = [players(on_sqlite, of, 6, 0.1, target="together", tokens="") for of in ("a", "b")]
    go(on_sqlite)
    finish(on_sqlite, *both)
    assert most_at_once(spans(on_sqlite)) == 2, "one alone would have begun two, both together four"
    for gpu in ("0", "1"):
        used = [
            (of, float(began), float(ended)) for of, _, began, ended, seen in told(on_sqlite, "span") if seen == gpu
        ]
        assert used
        assert most_at_once(used) == 1


# One process


@pytest.fixture
def home(on_sqlite):
    with Workspace.open(on_sqlite / ".pipes", configuration=load(on_sqlite)) as opened:
        yield opened


def the_steps(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    (folder / "shared_limits_steps.py").write_text(STEPS)
    import importlib

    import shared_limits_steps

    return importlib.reload(shared_limits_steps)


STEPS = """
import os, time
from pathlib import Path
from mlflow_pipes import pipeline, step

@step(gpus=1, reuse="never")
def sees(number: int) -> tuple[str, int]:
    time.sleep(0.05)
    return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()

@step(reuse="never")
def sees_all(number: int) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")

@pipeline
def seeing():
    return [sees(number) for number in range(6)], [sees_all(number) for number in range(2)]

@step(tokens={"licence": 2}, retries=1, reuse="never")
def ends(how: str, seen: str) -> str:
    times = len(list(Path(seen).iterdir()))
    (Path(seen) / str(times)).touch()
    if times == 0 and how == "raises":
        raise ValueError("the first time")
    if times == 0 and how == "dies":
        os._exit(3)
    if how == "hangs":
        time.sleep(600)
    return how

@step(tokens="licence")
def child(number: int) -> int:
    return number

@step(tokens={"licence": 2})
def grows(count: int) -> list[int]:
    return [child(number) for number in range(count)]
"""


def test_each_attempt_sees_its_own_gpu_in_a_fresh_process(on_sqlite, home, monkeypatch):
    steps = the_steps(on_sqlite, monkeypatch)
    seen, others = run(steps.seeing.options(target="together")(), workspace=home, observers=()).output()
    assert {gpu for gpu, _ in seen} == {"0", "1"}
    assert len({pid for _, pid in seen}) == 6, "no process keeps memory on a gpu that it does not have any more"
    assert others == [os.environ.get("CUDA_VISIBLE_DEVICES")] * 2


@pytest.mark.parametrize("how", ["raises", "dies"])
def test_tokens_of_an_attempt_that_failed_are_free_for_the_next(on_sqlite, home, monkeypatch, how):
    steps = the_steps(on_sqlite, monkeypatch)
    (on_sqlite / "seen").mkdir()
    done = run(steps.ends(how, str(on_sqlite / "seen")), workspace=home, observers=())
    assert done.step("ends").attempts == 2
    run(steps.child(1), workspace=home, observers=())


def test_tokens_of_an_attempt_that_took_too_long_are_free(on_sqlite, home, monkeypatch):
    steps = the_steps(on_sqlite, monkeypatch)
    (on_sqlite / "seen").mkdir()
    with pytest.raises(RunFailed, match="timeout_s"):
        run(
            steps.ends.options(timeout_s=0.3, retries=0)("hangs", str(on_sqlite / "seen")), workspace=home, observers=()
        )
    run(steps.child(1), workspace=home, observers=())


def test_a_step_that_returns_calls_gives_its_tokens_back_to_them(on_sqlite, home, monkeypatch):
    steps = the_steps(on_sqlite, monkeypatch)
    assert run(steps.grows(5), workspace=home, observers=()).output() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tokens": "licnce"}, r"'licnce', which is not configured; did you mean 'licence'.*\[tokens\] in pipes.toml"),
        ({"tokens": {"licence": 3}}, "asks for 3 of token 'licence', but in all there are 2"),
        ({"gpus": 3, "target": "together"}, "gpus=3, but target 'together' has 2 gpus"),
    ],
)
def test_what_can_never_be_had_is_refused_before_anything_runs(on_sqlite, home, monkeypatch, options, match):
    steps = the_steps(on_sqlite, monkeypatch)
    with pytest.raises(ConfigurationError, match=match):
        run(steps.child.options(**options)(1), workspace=home, observers=())
    assert home.runs.list() == []


def test_a_priority_that_is_no_whole_number_is_refused(on_sqlite, home, monkeypatch):
    steps = the_steps(on_sqlite, monkeypatch)
    with pytest.raises(DeclarationError, match=r"priority=1\.5"):
        run(steps.child(1), workspace=home, observers=(), priority=1.5)


def test_the_command_line_gives_a_run_its_priority(on_sqlite, players):
    holder = players(on_sqlite, "holder", 1, 600)
    go(on_sqlite)
    wait_for(on_sqlite, "began", 1)
    arguments = ["run", "program.py:queries", "--priority", "7", "--quiet", "--of", "cli", "--count", "1"]
    process = subprocess.Popen([Path(sys.executable).parent / "pipes", *arguments], cwd=on_sqlite)
    with Workspace.open(on_sqlite / ".pipes", configuration=load(on_sqlite)) as home:
        wait_until_short(home)
        from mlflow_pipes.workspace.ledger import tables

        rows = home.ledger.database.rows(tables.token_requests.select())
        assert {row.held: (row.priority, json.loads(row.amounts)) for row in rows} == {
            True: (0, {"database": 1}),
            False: (7, {"database": 1}),
        }
    holder.kill()
    assert process.wait(timeout=60) == 0
