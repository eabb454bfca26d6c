"""Steps that fail: what that means for the others, who can do with it, and what is done when all is over."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from mlflow_pipes import RunOutcome, StepFailure, Workspace, allow_failure, current_run, each, pipeline, run, step

pytestmark = pytest.mark.integration


@step
def risky(x: int) -> int:
    if x % 3 == 0:
        raise ValueError(f"{x} is a multiple of three")
    return x


@step
def told(values: list[int | StepFailure]) -> list[str]:
    return [str(value) for value in values]


@step
def told_one(value: int | StepFailure) -> str:
    return f"{value.kind}, {value.exception[0]}" if isinstance(value, StepFailure) else str(value)


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def follow() -> str:
    return "after"


@step
def ok(x: int) -> int:
    return x


@step
def nap(seconds: float, x: int = 0) -> int:
    time.sleep(seconds)
    return x


@step
def naps(seconds: float, count: int) -> list[int]:
    return nap.map(seconds=seconds, x=each(list(range(count))))


@step
def risky_children(x: int) -> list[int]:
    return [risky(x), risky(x + 1)]


@step
def deep(n: int) -> int:
    return deep(n - 1) if n else risky(0)


@step
def flaky(folder: str, x: int) -> int:
    attempt = current_run().attempt
    if attempt < 2:
        raise ConnectionError("not yet")
    return x


@step
def flaky_children(folder: str) -> list[int]:
    return flaky.options(retries=2).map(folder=folder, x=each([1, 2]))


@step
def impatient_child() -> int:
    return nap.options(timeout_s=0.3)(90.0)


@step
def forgetful(x: int) -> int:
    risky(1)
    ok(2)
    return x


@step
def notes_outcome(outcome: RunOutcome) -> dict[str, Any]:
    return {"status": outcome.status, "message": outcome.message, "failed": [one.step for one in outcome.failures]}


@step
def cleans() -> str:
    return "clean"


@step
def broken_hook() -> None:
    raise OSError("the hook is broken")


@step
def runs_inside() -> Any:
    return run(ok(1)).output()


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as opened:
        yield opened


def go(call, workspace, target="inline", **options):
    options.setdefault("raise_on_failure", False)
    return run(call, workspace=workspace, observers=(), target=target, **options)


def statuses(done):
    return {one.node: one.status.value for one in done.steps}


@pipeline
def accepts_one():
    return told_one(allow_failure(risky(3))), told_one(allow_failure(risky(4)))


@pipeline
def accepts_list():
    return told(allow_failure([risky(3), risky(4)]))


@pipeline
def accepts_map():
    return told(allow_failure(risky.map([1, 2, 3])))


@pipeline
def accepts_grown():
    return told(allow_failure(risky_children(3)))


@pipeline
def accepts_order():
    failed = risky(3)
    return follow.after(allow_failure(failed))()


@pipeline
def optional_step():
    part = risky.options(optional=True)(3)
    return {"other": ok(1)}, told([allow_failure(part), 5])


@pipeline
def optional_needed():
    add([risky.options(optional=True)(3), 1])
    return ok(1)


@pipeline
def not_accepted(values: list[int]):
    return add(risky.map(values))


@pipeline(fail_fast=False)
def all_the_same():
    risky(3)
    return ok.after(nap(0.1))(1)


@pipeline
def at_once():
    risky(3)
    return ok.after(nap(90.0))(1)


@pipeline
def out_of_time():
    return naps.options(total_timeout_s=2.5).after(ok(1))(90.0, 3)  # a worker has started when its time begins


@pipeline
def one_out_of_time():
    return nap.options(total_timeout_s=0.5)(90.0)


@pipeline
def deep_failure(n: int):
    return deep(n)


@pipeline
def retried(folder: str):
    return flaky_children(folder)


@pipeline
def forgets():
    return forgetful(1)


@pipeline(on_success=notes_outcome, on_failure=notes_outcome.options(name="on failure"), always=[cleans])
def hooked(x: int):
    return ok(risky(x))


@pipeline(always=broken_hook)
def hook_fails(x: int):
    return ok(x)


@pipeline(always=runs_inside)
def hook_runs():
    return ok(1)


@pipeline(always=notes_outcome)
def hooked_long():
    return nap.map([90.0, 90.0, 90.0])


def test_a_failure_stands_in_the_place_of_the_output(workspace):
    done = go(accepts_one(), workspace)
    assert done.output() == ("exception, ValueError", "4")
    assert done.status == "succeeded"
    assert done.step("risky[x=3]").status == "failed"


@pytest.mark.parametrize("target", ["inline", "local"])
@pytest.mark.parametrize("call", [accepts_list, accepts_map, accepts_grown])
def test_failures_stand_among_good_outputs(workspace, call, target):
    done = go(call(), workspace, target)
    assert done.status == "succeeded", done.failure_text()
    (failure,) = [text for text in done.output() if text.startswith("step ")]
    assert failure.endswith("failed: ValueError: 3 is a multiple of three")
    assert len(done.output()) == (3 if call is accepts_map else 2)


def test_what_accepts_a_failure_is_reused_while_the_failure_stays_the_same(workspace):
    go(accepts_one(), workspace)
    again = go(accepts_one(), workspace)
    assert statuses(again)["risky[x=3]"] == "failed"
    assert {one.status.value for one in again.steps if one.name == "told_one"} == {"reused"}


def test_order_alone_can_accept_any_end(workspace):
    done = go(accepts_order(), workspace)
    assert (done.status, done.output()) == ("succeeded", "after")


def test_the_failure_of_an_optional_step_fails_nothing_else(workspace):
    done = go(optional_step(), workspace)
    assert done.status == "succeeded"
    assert done.output()[0] == {"other": 1}


def test_what_needs_an_optional_step_that_failed_is_skipped(workspace):
    done = go(optional_needed(), workspace)
    assert (done.status, done.output()) == ("succeeded", 1)
    assert done.step("add").status == "skipped"


def test_a_failed_item_fails_the_run_and_is_told_once(workspace):
    text = go(not_accepted([1, 3, 5]), workspace).failure_text()
    assert text.count("ValueError: 3 is a multiple of three") == 2, "in the headline and in the traceback"
    assert "step 'risky[x=3]' failed" in text
    assert "step 'risky' failed" not in text, "the map failed only because an item did"


def test_the_root_of_a_deep_failure_is_told_and_not_what_it_stands_in(workspace):
    done = go(deep_failure(30), workspace)
    text = done.failure_text()
    assert "step 'deep~31/risky' failed: ValueError: 0 is a multiple of three" in text
    assert "more failed steps" not in text
    assert statuses(done)["deep"] == "failed"
    assert done.step("deep").reason == "step 'deep~2' failed"


def test_without_fail_fast_all_that_can_goes_on(workspace):
    done = go(all_the_same(), workspace, "local")
    assert done.status == "failed"
    assert statuses(done) == {"risky": "failed", "nap": "succeeded", "ok": "succeeded"}


def test_with_fail_fast_the_first_failure_ends_what_runs(workspace):
    begin = time.monotonic()
    done = go(at_once(), workspace, "local")
    assert time.monotonic() - begin < 60
    assert statuses(done) == {"risky": "failed", "nap": "cancelled", "ok": "cancelled"}


def test_a_total_timeout_ends_a_step_with_the_calls_that_it_returned(workspace):
    begin = time.monotonic()
    done = go(out_of_time(), workspace, "local")
    assert time.monotonic() - begin < 60
    why = "step 'naps' took longer than total_timeout_s = 2.5 s"
    assert done.failure_text().count(why) == 1, done.failure_text()
    assert "its process was killed" not in done.failure_text()
    assert {one.reason for one in done.steps if one.status == "failed" and one.node.startswith("naps/nap[")} == {why}
    assert done.status == "failed"


def test_a_step_that_was_stopped_says_why(workspace):
    done = go(one_out_of_time(), workspace, "local")
    failure = done.step("nap").failure
    assert failure.kind == "timeout"
    assert failure.message == "step 'nap' took longer than total_timeout_s = 0.5 s"


def test_returned_calls_have_retries_and_timeouts_of_their_own(workspace, tmp_path):
    done = go(retried(str(tmp_path)), workspace, "local")
    assert done.output() == [1, 2]
    assert {one.attempts for one in done.steps if one.name == "flaky" and one.attempts} == {2}
    begin = time.monotonic()
    failed = go(impatient_child(), workspace, "local")
    assert time.monotonic() - begin < 60
    assert failed.step("impatient_child/nap").failure.kind == "timeout"


@pytest.mark.parametrize(("x", "status"), [(1, "succeeded"), (3, "failed")])
def test_hooks_are_told_how_the_run_went(workspace, x, status):
    done = go(hooked(x), workspace)
    assert done.status == status
    ended = statuses(done)
    name, other = ("notes_outcome", "on failure") if status == "succeeded" else ("on failure", "notes_outcome")
    outcome = done.step(name).output()
    assert outcome["status"] == status
    assert outcome["failed"] == ([] if status == "succeeded" else ["risky"])
    assert ended[other] == "skipped"
    assert ended["cleans"] == "succeeded"


def test_hooks_run_once_a_run_and_are_never_reused(workspace):
    for _ in range(2):
        done = go(hooked(1), workspace)
        assert done.step("cleans").attempts == 1


def test_a_hook_that_fails_fails_the_run(workspace):
    done = go(hook_fails(1), workspace)
    assert done.status == "failed"
    assert "OSError: the hook is broken" in done.failure_text()
    assert done.step("ok").status == "succeeded"


def test_hooks_run_when_a_run_is_cancelled_and_they_are_told(workspace):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    done = go(hooked_long(), workspace, "local")
    timer.join()
    assert time.monotonic() - begin < 60
    assert done.status == "cancelled"
    assert done.step("notes_outcome").output()["status"] == "cancelled"
    assert {one.status.value for one in done.steps if one.name == "nap"} == {"cancelled"}


def test_a_run_inside_a_step_is_refused(workspace):
    done = go(hook_runs(), workspace)
    assert done.status == "failed"
    assert "step" in done.failure_text()


def test_calls_that_a_step_made_and_did_not_return_are_told(workspace):
    done = go(forgets(), workspace)
    assert done.status == "succeeded"
    (warning,) = done.step("forgetful").warnings
    assert warning.startswith("step 'forgetful' made 2 calls of steps ('ok', 'risky') and returned 0 of them")
