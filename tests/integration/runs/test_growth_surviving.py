"""Runs that grow survive kills, lost blobs and cancellation; what was typed into a notebook grows as well."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from mlflow_pipes import Workspace, each, pipeline, run, step

pytestmark = pytest.mark.integration

FLOW = """
import sys, time
from pathlib import Path
from mlflow_pipes import each, pipeline, run, step

@step
def work(number: int, effects: str) -> int:
    time.sleep(0.05)
    with open(effects, "ab", buffering=0) as log:
        log.write(f"{number}\\n".encode())
    return number

@step
def add(values: list[int]) -> int:
    return sum(values)

@step
def tree(first: int, depth: int, effects: str) -> int:
    if depth == 0:
        return work(first, effects)
    return add([tree(first, depth - 1, effects), tree(first + 2 ** (depth - 1), depth - 1, effects)])

@pipeline
def flow(effects: str):
    return tree(0, 4, effects), add(work.map(number=each(list(range(100, 110))), effects=effects))

if __name__ == "__main__":
    print(run(flow(sys.argv[1])).output())
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 2\n", encoding="utf-8")
    (tmp_path / "flow.py").write_text(FLOW, encoding="utf-8")
    return tmp_path


def start(project):
    return subprocess.Popen(
        [sys.executable, "flow.py", str(project / "effects")],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def effects(project):
    file = project / "effects"
    return Counter(file.read_text().split()) if file.exists() else Counter()


@pytest.mark.parametrize("seed", range(3))
def test_a_growing_run_killed_at_any_moment_goes_on_without_repeating_a_finished_step(project, seed):
    rng = random.Random(seed)
    process = start(project)
    wanted, deadline = rng.randrange(2, 18), time.monotonic() + 60
    while effects(project).total() < wanted:
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.05))
    process.kill()
    process.communicate()
    with Workspace.open(project) as workspace:
        killed = workspace.runs.get("latest")
        assert killed.status == "interrupted"
        done = {one.node for one in killed.steps if one.name == "work" and one.status.good}
        before = effects(project)
    again = start(project)
    out, err = again.communicate(timeout=60)
    assert out.strip() == f"({sum(range(16))}, {sum(range(100, 110))})", err
    with Workspace.open(project) as workspace:
        last = workspace.runs.get("latest")
        assert done <= {one.node for one in last.steps if one.reused}
    repeated = {number for number, times in effects(project).items() if times > before[number] and before[number]}
    # Two ran at once, and what ended in the last 20 ms may not be committed yet; what the ledger knew is never repeated.
    assert len(repeated) <= 6
    assert len(effects(project)) == 26


@step
def large(size: int, letter: str) -> str:
    return letter * size


@step
def measure(text: str, more: int) -> int:
    return len(text) + more


@step
def several(size: int) -> list[str]:
    return [large(size, "a"), large(size, "b")]


@step
def total_length(texts: list[str], more: int) -> int:
    return sum(map(len, texts)) + more


@step
def letters() -> list[str]:
    return [letter * 50_000 for letter in "xyz"]


@step
def nap(seconds: float, x: int) -> int:
    time.sleep(seconds)
    return x


@step
def naps(count: int) -> list[int]:
    return nap.map(seconds=90.0, x=each(list(range(count))))


@pipeline
def lengths(more: int):
    return total_length(several(100_000), more)


@pipeline
def mapped_lengths(more: int):
    return measure.map(letters(), more=more)


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as opened:
        yield opened


def go(call, workspace, target="inline", **options):
    return run(call, workspace=workspace, observers=(), target=target, **options)


def remove_blobs(workspace, larger_than):
    found = [digest for digest, _ in workspace.datastore.blobs() if digest.size_bytes > larger_than]
    workspace.datastore.delete(found)
    return len(found)


@pytest.mark.parametrize("target", ["inline", "local"])
def test_outputs_of_returned_calls_that_were_lost_are_made_again(workspace, target):
    go(lengths(1), workspace)
    assert remove_blobs(workspace, 10_000) == 2
    done = go(lengths(2), workspace, target)
    assert done.output() == 200_002
    assert {one.node for one in done.steps if one.attempts} == {
        "several/large[letter=a]",
        "several/large[letter=b]",
    } | {"total_length"}


def test_a_list_that_was_lost_is_made_again_for_what_is_mapped_over_it(workspace):
    go(mapped_lengths(1), workspace)
    assert remove_blobs(workspace, 10_000) > 0
    assert go(mapped_lengths(2), workspace).output() == [50_002] * 3


def test_a_stored_graph_that_was_lost_is_made_again(workspace):
    go(lengths(1), workspace)
    assert remove_blobs(workspace, 0) > 0
    done = go(lengths(1), workspace)
    assert done.output() == 200_001
    assert "several" in {one.node for one in done.steps if one.attempts}


def test_blobs_that_are_lost_while_a_run_grows_are_made_again(workspace):
    class Thief:
        """Sees the records of a run; takes the outputs of the first children away as soon as they are there."""

        taken = 0

        def recorded(self, records):
            for record in records:
                output = getattr(record, "output", None)
                if (
                    not self.taken
                    and output is not None
                    and getattr(output, "form", "")
                    and type(record).__name__ == "OutputCached"
                ):
                    self.taken += remove_blobs(workspace, 10_000)

        def seen(self, event):
            pass

    thief = Thief()
    done = run(lengths(7), workspace=workspace, observers=[thief], target="local")
    assert done.output() == 200_007


def test_a_run_is_cancelled_while_it_grows(workspace):
    begin = time.monotonic()

    class Impatient:
        """Cancels the run, as another process would, once a returned call is there."""

        def recorded(self, records):
            for record in records:
                if getattr(record, "node", "") == "naps/nap[x=3]":
                    threading.Thread(target=workspace.runs.cancel, args=(record.run_id,)).start()

        def seen(self, event):
            pass

    done = run(naps(6), workspace=workspace, observers=[Impatient()], target="local", raise_on_failure=False)
    assert time.monotonic() - begin < 60
    assert done.status == "cancelled"
    assert {one.status.value for one in done.steps} == {"cancelled"}


NOTEBOOK = """
import linecache, sys, types

def cell(number, text, scope):
    # what a notebook does with a cell: the source stands in linecache under a name that is no file
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), scope)

scope = vars(sys.modules["__main__"])
cell(1, '''
from mlflow_pipes import step, run

FACTOR = 3

def times(x):
    return x * FACTOR

@step
def child(x: int) -> int:
    return times(x)

@step
def parent(x: int) -> list[int]:
    return [child(x), child(x + 1)]

@step
def again(n: int, done: int = 0) -> int:
    return again(n - 1, done + FACTOR) if n else done
''', scope)
cell(2, '''
def ran(call):
    done = run(call, target=TARGET, observers=())
    print(done.output(), sum(one.attempts > 0 for one in done.steps))
ran(child(1))
ran(parent(1))
ran(again(3))
ran(again(3))
''', scope)
"""


@pytest.mark.parametrize("target", ["inline", "local"])
def test_steps_of_a_notebook_may_return_calls_of_each_other(tmp_path, target):
    (tmp_path / "pipes.toml").touch()
    text = f"TARGET = {target!r}\n" + NOTEBOOK
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["3 1", "[3, 6] 2", "9 4", "9 0"], "child(1) is known: it has one key everywhere"
