"""The inline target keeps the contract, and what is its own."""

import sys
import threading
import uuid
from contextlib import ExitStack

import pytest

from mlflow_pipes.model.attempt import AttemptSucceeded, FailureKind, LogLine
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.targets.inline import InlineTarget
from mlflow_pipes.testing.target_contract import TargetContract
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported


class TestInlineTarget(TargetContract):
    kills = False

    @pytest.fixture
    def datastore(self):
        return MemoryDatastore()

    def make_target(self, datastore, folder):
        return InlineTarget("inline", datastore, checkout=folder / "checkout", scratch=folder / "scratch")


@pytest.fixture
def inline(tmp_path):
    target = InlineTarget("inline", MemoryDatastore(), checkout=tmp_path / "checkout", scratch=tmp_path / "scratch")
    with driving(target) as driver:
        yield driver


@pytest.fixture
def assign(tmp_path, inline):
    def assign(source, **arguments):
        file = tmp_path / f"inline_{uuid.uuid4().hex}.py"
        file.write_text(source)
        return assignment_of(imported(file, "f"), inline.target._datastore, arguments)

    return assign


def test_submitting_runs_nothing_until_the_loop_polls(inline, assign):
    inline.target.submit(assign("def f(): return 1"))
    assert inline.events == []
    assert inline.target.next_deadline() is not None
    inline.target.poll()
    assert len(inline.answers()) == 1
    assert inline.target.next_deadline() is None


def test_one_poll_runs_one_attempt(inline, assign):
    for _ in range(2):
        inline.target.submit(assign("def f(): return 1"))
    inline.target.poll()
    assert len(inline.answers()) == 1


def test_what_waits_can_be_cancelled(inline, assign):
    assignment = assign("def f(): return 1")
    inline.target.submit(assignment)
    inline.target.cancel(assignment.attempt)
    assert inline.answers()[0].failure.kind is FailureKind.CANCELLED
    assert not inline.started(assignment.attempt)


def test_output_is_shown_and_reported(inline, assign, capsys):
    assignment = assign("import sys\ndef f():\n    print('seen')\n    print('bad', file=sys.stderr)")
    inline.run(assignment)
    assert inline.lines(assignment.attempt, "stdout") == ["seen"]
    assert inline.lines(assignment.attempt, "stderr") == ["bad"]
    assert capsys.readouterr() == ("seen\n", "bad\n")


def test_output_can_be_reported_alone(tmp_path, capsys):
    target = InlineTarget("inline", MemoryDatastore(), checkout=tmp_path, scratch=tmp_path, capture_output=True)
    file = tmp_path / "inline_quiet.py"
    file.write_text("import sys\ndef f():\n    print('seen')\n    sys.stdout.buffer.write(b'bytes\\n')")
    with driving(target) as driver:
        assignment = assignment_of(imported(file, "f"), target._datastore, {})
        driver.run(assignment)
        assert driver.lines(assignment.attempt, "stdout") == ["seen", "bytes"]
    assert capsys.readouterr() == ("", "")


def test_the_streams_are_the_callers_again_afterwards(inline, assign):
    before = sys.stdout, sys.stderr
    inline.run(assign("def f(): raise ValueError"))
    assert (sys.stdout, sys.stderr) == before


TAKES_THE_PROCESS = """
import os, time, mlflow

def f(says: str):
    os.environ["MINE"] = says
    for _ in range(5):
        time.sleep(0.01)
        print(says)
        mlflow.log_metric(says, 1)
    assert os.environ["MINE"] == says
"""


def test_attempts_in_two_threads_take_turns(tmp_path):
    """Each has the streams, the environment and MLflow's state of the process for itself."""
    streams = sys.stdout, sys.stderr
    with ExitStack() as both:
        drivers, threads = {}, []
        for says in ("one", "two"):
            store = MemoryDatastore()
            target = InlineTarget(says, store, checkout=tmp_path / "c", scratch=tmp_path / "s", capture_output=True)
            drivers[says] = both.enter_context(driving(target))
            file = tmp_path / f"speaks_{says}.py"
            file.write_text(TAKES_THE_PROCESS)
            target.submit(assignment_of(imported(file, "f"), store, {"says": says}))
            threads.append(threading.Thread(target=target.poll))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for says, driver in drivers.items():
        (answer,) = driver.answers()
        assert isinstance(answer, AttemptSucceeded), answer
        assert {metric.key for metric in answer.tracked.metrics} == {says}
        lines = [(event.stream, event.text) for event in driver.events if isinstance(event, LogLine)]
        assert lines == [("stdout", says)] * 5
    assert (sys.stdout, sys.stderr) == streams


def test_ctrl_c_in_a_step_cancels_it_and_reaches_the_caller(inline, assign):
    assignment = assign("def f(): raise KeyboardInterrupt")
    inline.target.submit(assignment)
    with pytest.raises(KeyboardInterrupt):
        inline.target.poll()
    assert inline.answers()[0].failure.kind is FailureKind.CANCELLED
