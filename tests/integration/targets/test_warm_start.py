"""Workers of the local target that are warmed up, and the process that they are forked from, kept for the next run."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from mlflow_pipes import content
from mlflow_pipes.model.attempt import AttemptSucceeded, FailureKind
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.local import LocalTarget, spare_zygote
from mlflow_pipes.testing.target_contract import alive
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

CLOSED_WITHIN_S = 20.0  # of sixty and more; mostly it takes milliseconds


@pytest.fixture
def store(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


@pytest.fixture
def make(store, tmp_path):
    def make(**options):
        options = {"workers": 2, "checkout": tmp_path / "checkout", "scratch": tmp_path / "scratch", **options}
        return LocalTarget("local", store, **options)

    return make


@pytest.fixture
def assign(store, tmp_path):
    def assign(source, qualname, arguments=None, /, *, name="steps_here"):
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(source))
        return assignment_of(imported(file, qualname), store, arguments or {})

    return assign


SLEEPING = """
    import os, subprocess, time
    from pathlib import Path
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Path({file!r} + ".tmp").write_text(f"{{os.getpid()}} {{child.pid}}")
    os.rename({file!r} + ".tmp", {file!r})
    time.sleep(300)
"""


def test_a_worker_that_imports_for_nothing_dies_at_once_with_all_it_started(make, assign, tmp_path):
    file = tmp_path / "pids"
    with driving(make()) as driver:
        driver.target.warm([assign(SLEEPING.format(file=str(file)), "f").function], {})
        driver.until(file.exists)
        pids = [int(pid) for pid in file.read_text().split()]
        began = time.monotonic()
        driver.target.close()
        assert time.monotonic() - began < CLOSED_WITHIN_S
        assert not any(map(alive, pids))


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
def test_closing_waits_for_nothing_that_is_only_starting(make, assign, after_s):
    with driving(make(environ={"PIPES_TEST_AFTER": str(after_s)})) as driver:  # an environment that no spare one has
        driver.target.warm([assign("import time; time.sleep(60)", "f").function] * 2, {})
        zygote = driver.target._crews.own.zygote.pid
        end = time.monotonic() + after_s
        driver.until(lambda: time.monotonic() >= end)
        began = time.monotonic()
        driver.target.close()
        assert time.monotonic() - began < CLOSED_WITHIN_S
        spare = spare_zygote._spare
        assert not alive(zygote) or (spare is not None and spare.link.pid == zygote)


def test_no_more_workers_are_warmed_than_attempts_are_expected(make, assign):
    with driving(make(workers=4)) as driver:
        functions = [assign("def f(): return 1", "f").function] * 2
        driver.target.warm(functions, {})
        assert len(driver.target._crews.own.links) == 2
        driver.target.warm(functions * 5, {})
        assert len(driver.target._crews.own.links) == 4


def test_a_warmed_worker_takes_the_attempt_also_while_it_still_imports(make, assign, store):
    with driving(make()) as driver:
        assignment = assign("import os, time; time.sleep(0.5)\ndef f(): return os.getpid()", "f")
        driver.target.warm([assignment.function], {})
        answer = driver.run(assignment)
        (link,) = driver.target._crews.own.links.values()
        assert content.load(answer.output, store) == link.pid


def test_a_module_that_kills_its_process_fails_the_attempt_and_nothing_else(make, assign):
    with driving(make()) as driver:
        assignment = assign("import os; os.kill(os.getpid(), 9)", "f")
        driver.target.warm([assignment.function], {})
        driver.until(lambda: not driver.target._crews.own.links)
        answer = driver.run(assignment)
        assert answer.failure.kind is FailureKind.LOST
        assert isinstance(driver.run(assign("def g(): return 1", "g", name="others")), AttemptSucceeded)
        assert len(driver.answers()) == 2


def test_a_module_that_prints_more_than_a_pipe_holds_loses_no_line(make, assign):
    with driving(make()) as driver:
        assignment = assign("for number in range(20_000): print(number)\ndef f(): return 1", "f")
        driver.target.warm([assignment.function], {})
        end = time.monotonic() + 1.0
        driver.until(lambda: time.monotonic() > end)
        assert isinstance(driver.run(assignment), AttemptSucceeded)
        assert driver.lines(assignment.attempt, "stdout") == [str(number) for number in range(20_000)]


def test_a_function_that_is_not_there_fails_its_own_attempt_and_no_other_of_the_module(make, assign):
    with driving(make(workers=1)) as driver:
        source = "print('imported')\ndef here(): return 1"
        missing, there = assign(source, "missing"), assign(source, "here")
        driver.target.warm([missing.function, there.function], {})
        assert isinstance(driver.run(there), AttemptSucceeded)
        assert "missing" in driver.run(missing).failure.message
        assert driver.lines(there.attempt, "stdout") == ["imported"]
        assert driver.lines(missing.attempt, "stdout") == []


ORCHESTRATOR = """
import os, sys, time
from pathlib import Path
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.local import LocalTarget
from mlflow_pipes.testing.target_driver import driving, imported

folder = Path(sys.argv[1])
store = LocalDatastore(folder / "datastore")
with driving(LocalTarget("local", store, workers=2, checkout=folder / "c", scratch=folder / "s")) as driver:
    driver.target.warm([imported(folder / "steps_here.py", "f")], {})
    (folder / "zygote").write_text(str(driver.target._crews.own.zygote.pid))
    if sys.argv[2] == "importing":
        driver.until((folder / "pids").exists)
    (folder / "ready").touch()
    time.sleep(300)
"""


@pytest.mark.parametrize("moment", ["starting", "importing"])
def test_killing_the_orchestrator_while_it_warms_up_leaves_no_process(tmp_path, assign, moment):
    assign(SLEEPING.format(file=str(tmp_path / "pids")), "f")
    orchestrator = subprocess.Popen([sys.executable, "-c", ORCHESTRATOR, str(tmp_path), moment])
    try:
        wait_until((tmp_path / "ready").exists)
    finally:
        orchestrator.kill()
        orchestrator.wait()
    zygote = int((tmp_path / "zygote").read_text())
    wait_until(lambda: not alive(zygote))
    # Killed before it imported, a worker may have got so far meanwhile: what it started is gone all the same.
    pids = tmp_path / "pids"
    wait_until(lambda: not any(map(alive, map(int, pids.read_text().split() if pids.exists() else ()))))


# --- the spare zygote ---


def worker_of(driver, assign, store):
    """Do an attempt; return the zygote's pid."""
    assert isinstance(driver.run(assign("def f(): return 1", "f")), AttemptSucceeded)
    return driver.target._crews.own.zygote.pid


def test_the_next_run_of_a_process_forks_from_the_same_zygote(make, assign, store):
    zygotes = []
    for _ in range(3):
        with driving(make()) as driver:
            zygotes.append(worker_of(driver, assign, store))
    assert len(set(zygotes)) == 1
    assert alive(zygotes[0])


def test_each_run_has_the_working_folder_search_path_and_code_of_its_own_moment(
    make, assign, store, tmp_path, monkeypatch
):
    seen = []
    for name in ("one", "three"):  # not of one length: byte code is kept by size and second
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        (folder / "beside.py").write_text(f"name = {name!r}")
        with driving(make()) as driver:
            source = f"import os, beside\ndef f(): return [os.getcwd(), beside.name, {name!r}]"
            seen.append(content.load(driver.run(assign(source, "f")).output, store))
            seen.append(driver.target._crews.own.zygote.pid)
    assert seen[0] == [str(tmp_path / "one"), "one", "one"]
    assert seen[2] == [str(tmp_path / "three"), "three", "three"]
    assert seen[1] == seen[3]


@pytest.mark.parametrize("change", ["variable", "limit", "umask", "preload"])
def test_a_zygote_is_not_kept_for_a_run_with_other_surroundings(make, assign, store, monkeypatch, change):
    with driving(make()) as driver:
        before = worker_of(driver, assign, store)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    umask = os.umask(0o22)
    os.umask(umask)
    options = {"preload": ["colorsys"]} if change == "preload" else {}
    try:
        if change == "variable":
            monkeypatch.setenv("PIPES_TEST_COLOUR", "blue")
        elif change == "limit":
            resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else min(hard, 4096) % (1 << 40), hard))
        elif change == "umask":
            os.umask(umask ^ 0o7)
        with driving(make(**options)) as driver:
            assert worker_of(driver, assign, store) != before
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
        os.umask(umask)


def test_a_spare_zygote_that_died_is_replaced(make, assign, store):
    with driving(make()) as driver:
        before = worker_of(driver, assign, store)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not alive(before))
    with driving(make()) as driver:
        assert worker_of(driver, assign, store) != before


def test_two_targets_at_once_have_a_zygote_each(make, assign, store):
    with driving(make()) as one, driving(make()) as other:
        assert worker_of(one, assign, store) != worker_of(other, assign, store)


ONE_RUN = """
import os, sys, time
from pathlib import Path
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.local import LocalTarget, spare_zygote
from mlflow_pipes.testing.target_contract import alive
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported

folder = Path(sys.argv[1])
store = LocalDatastore(folder / "datastore")
def one_run():
    with driving(LocalTarget("local", store, workers=2, checkout=folder / "c", scratch=folder / "s")) as driver:
        driver.run(assignment_of(imported(folder / "steps_here.py", "f"), store, {}))
        return driver.target._crews.own.zygote.pid
zygote = one_run()
"""
ENDS = {
    "exit": "print(zygote, flush=True)",
    "os._exit": "print(zygote, flush=True); os._exit(0)",
    "kill -9": "print(zygote, flush=True); os.kill(os.getpid(), 9)",
    "a child outlives it": """
if os.fork() == 0:
    sys.stdout.close(); os.close(1); time.sleep(20); os._exit(0)
print(zygote, flush=True); os._exit(0)
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_spare_zygote_ends_with_its_process(tmp_path, assign, end):
    assign("def f(): return 1", "f")
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", ONE_RUN + ENDS[end], str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    zygote = int(program.stdout.readline())
    program.stdout.close()
    program.wait(10)
    wait_until(lambda: not alive(zygote))
    if end == "exit":
        assert program.stderr.read() == ""
    program.stderr.close()


IN_A_CHILD = """
child = os.fork()
if child == 0:
    print(one_run() != zygote, flush=True)  # a zygote of its own
    sys.exit()
os.waitpid(child, 0)
print(one_run() == zygote, flush=True)
"""


def test_a_forked_child_leaves_the_zygote_to_its_parent(tmp_path, assign):
    assign("def f(): return 1", "f")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ONE_RUN + IN_A_CHILD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["True", "True"]


def test_a_spare_zygote_that_nobody_needs_for_long_ends_by_itself(make, assign, store):
    with driving(make()) as driver:
        before = worker_of(driver, assign, store)
    spare_zygote._spare.link.rest(0.1)
    wait_until(lambda: not alive(before))
    with driving(make()) as driver:
        assert worker_of(driver, assign, store) != before
