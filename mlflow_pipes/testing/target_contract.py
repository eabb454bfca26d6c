"""What every compute target must do: inherit :class:`TargetContract` in a test module and give it a target.

::

    class TestMyTarget(TargetContract):
        @pytest.fixture
        def datastore(self, tmp_path):
            return LocalDatastore(tmp_path / "datastore")

        def make_target(self, datastore, folder):
            return MyTarget("mine", datastore, checkout=folder / "checkout", scratch=folder / "scratch")

A target that runs attempts in the engine's own process says ``kills = False``: what needs another process is skipped.
"""

from __future__ import annotations

import math
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_pipes import content
from mlflow_pipes.errors import TargetError
from mlflow_pipes.machine.processes import identity
from mlflow_pipes.model.attempt import (
    Assignment,
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    CapacityChanged,
    FailureKind,
    LogLine,
    Progress,
)
from mlflow_pipes.testing.target_driver import TargetDriver, assignment_of, driving, imported
from mlflow_pipes.testing.target_steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_pipes.ports import ComputeTarget, Datastore


class TargetContract:
    """The promises of :class:`mlflow_pipes.ports.ComputeTarget`, as tests."""

    kills = True

    def make_target(self, datastore: Datastore, folder: Path) -> ComputeTarget:
        """Return a target, not started; adapters override this."""
        raise NotImplementedError

    @pytest.fixture
    def datastore(self) -> Datastore:
        """Return an empty datastore that the target's workers reach; adapters override this."""
        raise NotImplementedError

    @pytest.fixture
    def driver(self, datastore: Datastore, tmp_path: Path) -> Iterator[TargetDriver]:
        with driving(self.make_target(datastore, tmp_path)) as driver:
            yield driver

    @pytest.fixture
    def steps(self, tmp_path: Path) -> Path:
        file = tmp_path / f"steps_{uuid.uuid4().hex}.py"
        file.write_text(STEPS)
        return file

    @pytest.fixture
    def assign(self, steps: Path, datastore: Datastore) -> Any:
        def assign(qualname: str, fields: dict[str, Any] | None = None, **arguments: Any) -> Assignment:
            return assignment_of(imported(steps, qualname), datastore, arguments, **(fields or {}))

        return assign

    @pytest.fixture
    def killing(self) -> None:
        if not self.kills:
            pytest.skip("this target runs attempts in the engine's own process")

    # --- results ---

    def test_an_attempt_is_started_and_then_answered_once(
        self, driver: TargetDriver, assign: Any, datastore: Datastore
    ) -> None:
        assignment = assign("double", x=21)
        answer = driver.run(assignment)
        assert isinstance(answer, AttemptSucceeded)
        assert content.load(answer.output, datastore) == 42
        assert answer.started_at <= answer.ended_at <= time.time()
        assert answer.worker
        assert answer.host
        of_attempt = [type(event) for event in driver.events if not isinstance(event, CapacityChanged)]
        assert of_attempt == [AttemptStarted, AttemptSucceeded]

    def test_a_large_output_goes_through_the_datastore(
        self, driver: TargetDriver, assign: Any, datastore: Datastore
    ) -> None:
        size = 50_000_000
        answer = driver.run(assign("large", size=size))
        assert isinstance(answer, AttemptSucceeded)
        again = assign("length", x=b"")
        again = Assignment(again.attempt, "contract", again.function, {"x": answer.output})
        measured = driver.run(again)
        assert isinstance(measured, AttemptSucceeded)
        assert content.load(measured.output, datastore) == size

    def test_many_attempts_are_all_answered(self, driver: TargetDriver, assign: Any, datastore: Datastore) -> None:
        assignments = [assign("double", x=number) for number in range(40)]
        slots = driver.target.capacity().slots
        for position, assignment in enumerate(assignments):
            driver.until(lambda begun=position: begun - len(driver.answers()) < slots)
            driver.target.submit(assignment)
        driver.until(lambda: len(driver.answers()) == len(assignments))
        outputs = {answer.attempt: answer for answer in driver.answers()}
        assert len(outputs) == len(assignments)
        for number, assignment in enumerate(assignments):
            answer = outputs[assignment.attempt]
            assert isinstance(answer, AttemptSucceeded)
            assert content.load(answer.output, datastore) == 2 * number

    def test_a_step_knows_its_run(self, driver: TargetDriver, assign: Any, datastore: Datastore) -> None:
        assignment = assign("about", {"tags": {"team": "a"}, "idempotency_key": "k", "random_seed": 7}, x=0)
        answer = driver.run(assignment)
        assert isinstance(answer, AttemptSucceeded)
        known = content.load(answer.output, datastore)
        assert known["id"] == assignment.step_run_id
        assert known["node"] == assignment.attempt.node
        assert (known["attempt"], known["tags"], known["key"], known["seed"]) == (1, {"team": "a"}, "k", 7)
        assert known["offline"] is False
        assert not Path(known["scratch"]).exists()
        assert [(metric.key, metric.number) for metric in answer.tracked.metrics] == [("loss", 0.5)]
        progress = [event for event in driver.events if isinstance(event, Progress)]
        assert [(event.done, event.total, event.text) for event in progress] == [(1.0, 2.0, "half")]

    # --- failures ---

    def test_an_exception_shows_the_users_frames_only(self, driver: TargetDriver, assign: Any, steps: Path) -> None:
        answer = driver.run(assign("fail", x=1))
        assert isinstance(answer, AttemptFailed)
        failure = answer.failure
        assert failure.kind is FailureKind.EXCEPTION
        assert failure.message == "ValueError: depth must not be negative"
        assert failure.exception == ("ValueError", "Exception", "BaseException")
        frames = [line for line in failure.traceback.splitlines() if line.startswith("  File ")]
        assert [frame.rpartition(" ")[2] for frame in frames] == ["fail", "helper"]
        assert all(str(steps) in frame for frame in frames)

    def test_causes_and_notes_of_an_exception_are_kept(self, driver: TargetDriver, assign: Any) -> None:
        answer = driver.run(assign("fail_in_chain", x=1))
        assert isinstance(answer, AttemptFailed)
        for text in ("depth must not be negative", "seen on a Monday", "direct cause", "training failed"):
            assert text in answer.failure.traceback
        assert "mlflow_pipes" not in answer.failure.traceback

    def test_sys_exit_in_a_step_is_a_failure(self, driver: TargetDriver, assign: Any) -> None:
        answer = driver.run(assign("exit_with", code=3))
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.EXCEPTION
        assert "called sys.exit(3)" in answer.failure.message

    def test_an_output_that_cannot_be_stored_is_named(self, driver: TargetDriver, assign: Any) -> None:
        answer = driver.run(assign("lock", x=1))
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.UNSTORABLE
        assert "lock" in answer.failure.message

    def test_inputs_that_are_gone_are_named_by_hash(
        self, driver: TargetDriver, assign: Any, datastore: Datastore
    ) -> None:
        assignment = assign("length", x=b"z" * 5_000)
        blobs = content.blobs_of(assignment.arguments["x"], datastore)
        datastore.delete(blobs)
        answer = driver.run(assignment)
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.INPUT
        assert set(answer.failure.blobs) == {str(blob) for blob in blobs}

    def test_code_that_changed_since_it_was_fingerprinted_is_refused(
        self, driver: TargetDriver, assign: Any, steps: Path
    ) -> None:
        assignment = assign("double", x=1)
        steps.write_text(steps.read_text() + "\n# edited\n")
        answer = driver.run(assignment)
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.SOURCE_CHANGED
        assert str(steps) in answer.failure.message

    # --- output ---

    def test_printed_lines_come_in_order_and_before_the_answer(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("write", count=200)
        driver.run(assignment)
        assert driver.lines(assignment.attempt, "stdout") == [*[f"out {n}" for n in range(200)], "half a line"]
        assert driver.lines(assignment.attempt, "stderr") == [f"err {n}" for n in range(200)]
        assert isinstance(driver.events[-1], AttemptSucceeded)

    @pytest.mark.usefixtures("killing")
    def test_what_subprocesses_and_descriptors_write_is_caught(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("write_low", x=1)
        driver.run(assignment)
        lines = driver.lines(assignment.attempt, "stdout")
        assert lines == ["from a child", "from a descriptor", "�� not text"]
        assert driver.lines(assignment.attempt, "stderr") == ["bad"]

    def test_a_flood_of_output_arrives_whole(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("flood", lines=20_000)
        driver.run(assignment)
        assert len(driver.lines(assignment.attempt, "stdout")) == 20_000

    def test_a_line_without_end_is_cut(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("long_line", size=1_000_000)
        driver.run(assignment)
        lines = driver.lines(assignment.attempt, "stdout")
        assert "".join(lines) == "y" * 1_000_000
        assert max(map(len, lines)) <= 64 * 1024

    # --- surroundings ---

    def test_environment_variables_are_set_for_the_attempt_alone(
        self, driver: TargetDriver, assign: Any, datastore: Datastore
    ) -> None:
        with_it = driver.run(assign("environment", {"environ": {"PIPES_TEST_MODE": "on"}}, name="PIPES_TEST_MODE"))
        without = driver.run(assign("environment", name="PIPES_TEST_MODE"))
        assert isinstance(with_it, AttemptSucceeded)
        assert isinstance(without, AttemptSucceeded)
        assert content.load(with_it.output, datastore) == "on"
        assert content.load(without.output, datastore) is None

    def test_an_attempt_sees_the_gpus_that_it_is_given_and_no_others(
        self, driver: TargetDriver, assign: Any, datastore: Datastore
    ) -> None:
        count = driver.target.capacity().gpus
        if not 1 <= count < math.inf:
            pytest.skip("this target has no graphics processors to give")

        def seen(*gpus: int) -> Any:
            answer = driver.run(assign("environment", {"gpus": gpus}, name="CUDA_VISIBLE_DEVICES"))
            assert isinstance(answer, AttemptSucceeded)
            return content.load(answer.output, datastore)

        before = seen()
        names = [seen(number) for number in range(int(count))]
        assert len(set(names)) == count
        assert seen(*range(int(count))) == ",".join(names)
        assert seen() == before, "who is given none sees what the target's workers see"

    def test_a_secret_is_masked_in_lines_and_failures(self, driver: TargetDriver, assign: Any) -> None:
        environ = {"PIPES_SECRET_DB_PASSWORD": "open sesame"}
        assignment = assign("tell_secret", {"environ": environ}, name="db-password")
        answer = driver.run(assignment)
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.message == "ValueError: cannot log in with ***"
        assert driver.lines(assignment.attempt, "stdout") == ["the password is ***"]
        assert "open sesame" not in repr(driver.events)

    def test_a_secret_that_is_not_set_says_which_variable_to_set(self, driver: TargetDriver, assign: Any) -> None:
        answer = driver.run(assign("tell_secret", name="db-password"))
        assert isinstance(answer, AttemptFailed)
        assert "PIPES_SECRET_DB_PASSWORD" in answer.failure.message

    def test_each_attempt_begins_in_the_working_folder(
        self, driver: TargetDriver, assign: Any, datastore: Datastore, tmp_path: Path
    ) -> None:
        before = driver.run(assign("where", x=0))
        driver.run(assign("move", folder=str(tmp_path)))
        after = driver.run(assign("where", x=0))
        assert isinstance(before, AttemptSucceeded)
        assert isinstance(after, AttemptSucceeded)
        assert before.output == after.output
        assert content.load(after.output, datastore) != str(tmp_path)

    # --- killing ---

    @pytest.mark.usefixtures("killing")
    def test_an_attempt_that_takes_too_long_is_killed(self, driver: TargetDriver, assign: Any, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        began = time.monotonic()
        answer = driver.run(assign("touch_and_sleep", {"timeout_s": 0.5}, file=str(file), seconds=60))
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.TIMEOUT
        assert "0.5" in answer.failure.message
        assert time.monotonic() - began < 30  # of 60; mostly it takes half a second
        assert not alive(int(file.read_text()))

    @pytest.mark.usefixtures("killing")
    def test_a_cancelled_attempt_is_answered_long_before_its_end_and_dead(
        self, driver: TargetDriver, assign: Any, tmp_path: Path
    ) -> None:
        file = tmp_path / "pid"
        assignment = assign("touch_and_sleep", file=str(file), seconds=60)
        driver.target.submit(assignment)
        driver.until(lambda: file.exists() and bool(file.read_text()))
        began = time.monotonic()
        driver.target.cancel(assignment.attempt)
        answer = driver.answer(assignment.attempt)
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.CANCELLED
        assert time.monotonic() - began < 30  # of 60; mostly it takes milliseconds
        assert not alive(int(file.read_text()))

    def test_cancelling_an_unknown_or_ended_attempt_is_ignored(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("double", x=1)
        driver.target.cancel(assignment.attempt)
        driver.run(assignment)
        driver.target.cancel(assignment.attempt)
        driver.target.cancel(AttemptId("nowhere", "nothing", 1))
        driver.run(assign("double", x=2))
        assert len(driver.answers()) == 2

    @pytest.mark.parametrize(
        ("step", "argument", "reason"),
        [
            ("segfault", {"x": 0}, "signal 11 (SIGSEGV)"),
            ("leave", {"code": 3}, "exited with code 3"),
            ("leave", {"code": 0}, "exited with code 0"),
            ("kill_self", {"x": 0}, "signal 9 (SIGKILL)"),
        ],
    )
    @pytest.mark.usefixtures("killing")
    def test_a_dead_worker_fails_its_attempt_alone(
        self, driver: TargetDriver, assign: Any, step: str, argument: dict[str, Any], reason: str
    ) -> None:
        other = assign("sleep", seconds=0.5)
        if driver.target.capacity().slots > 1:
            driver.target.submit(other)
        answer = driver.run(assign(step, **argument))
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.LOST
        assert reason in answer.failure.message
        if driver.target.capacity().slots > 1:
            assert isinstance(driver.answer(other.attempt), AttemptSucceeded)
        assert isinstance(driver.run(assign("double", x=1)), AttemptSucceeded)

    @pytest.mark.usefixtures("killing")
    def test_lines_before_a_crash_are_kept(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("segfault", x=0)
        driver.run(assignment)
        assert driver.lines(assignment.attempt, "stdout") == ["before the end"]

    # --- closing ---

    def test_closing_answers_what_runs_and_waits(
        self, datastore: Datastore, assign: Any, tmp_path: Path
    ) -> None:  # fmt: skip
        with driving(self.make_target(datastore, tmp_path)) as driver:
            file = tmp_path / "pid"
            assignments = [assign("touch_and_sleep", file=str(file), seconds=60)]
            driver.target.submit(assignments[0])
            if self.kills:
                driver.until(lambda: file.exists() and bool(file.read_text()))
            driver.target.close()
            answers = driver.answers()
            assert [answer.attempt for answer in answers] == [assignments[0].attempt]
            assert isinstance(answers[0], AttemptFailed)
            assert answers[0].failure.kind is FailureKind.CANCELLED
            if self.kills:
                assert not alive(int(file.read_text()))
            driver.target.close()

    def test_a_closed_target_takes_nothing(self, driver: TargetDriver, assign: Any) -> None:
        driver.run(assign("double", x=1))
        driver.target.close()
        with pytest.raises(TargetError, match="closed"):
            driver.target.submit(assign("double", x=1))

    def test_capacity_says_what_it_holds(self, driver: TargetDriver) -> None:
        capacity = driver.target.capacity()
        assert capacity.slots >= 1
        assert capacity.cpus > 0
        assert capacity.memory_bytes >= 0
        assert capacity.gpus >= 0

    @pytest.mark.usefixtures("killing")
    def test_log_records_become_lines(self, driver: TargetDriver, assign: Any) -> None:
        assignment = assign("log", x=0)
        driver.run(assignment)
        lines = driver.lines(assignment.attempt, "logging")
        assert lines == ["INFO my.module: an info line", "WARNING my.module: a warning", "of two lines"]
        assert all(event.at > 0 for event in driver.events if isinstance(event, LogLine))


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits for its parent to take note does not."""
    return identity(pid) is not None
