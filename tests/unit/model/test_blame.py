"""Which failures of a run are told: those where it began."""

import pytest

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.blame import (
    RootCauses,
    group_out_of_time,
    inner_failure,
    is_inner,
    step_out_of_time,
    told_failure,
)
from mlflow_pipes.model.run import Status

KILLED = Failure(FailureKind.CANCELLED, "cancelled; its process was killed")


def causes(*failures, keep=None):
    found = RootCauses(keep)
    for node, reason in failures:
        found.take(node, reason, node)
    return found


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.SKIPPED])
@pytest.mark.parametrize("node", ["train", "it's", 'a "b"', "train[name='x']", "out/in"])
def test_a_failure_inside_is_known_by_its_words_whatever_the_step_is_called(node, status):
    assert is_inner(inner_failure(node, status))


@pytest.mark.parametrize(
    "reason", ["ValueError: step 'a' failed", "step 'a' failed: no", "upstream step 'a' failed", ""]
)
def test_other_words_are_a_failure_of_its_own(reason):
    assert not is_inner(reason)


def test_what_failed_because_of_what_it_returned_is_left_out():
    found = causes(("a~3", "ValueError: no"), ("a~2", "step 'a~3' failed"), ("a", "step 'a~2' failed"))
    assert (found.first, found.count) == (["a~3"], 1)


@pytest.mark.parametrize(
    "order", [("tree", "tree/a", "tree/b"), ("tree/a", "tree", "tree/b"), ("tree/a", "tree/b", "tree")]
)
def test_of_all_that_was_stopped_together_the_step_that_took_too_long_is_told(order):
    found = causes(*((node, step_out_of_time("tree", 2.0)) for node in order))
    assert (found.first, found.count) == (["tree"], 1)


def test_of_the_steps_of_a_sub_pipeline_that_took_too_long_one_is_told():
    found = causes(("g/a", group_out_of_time("g", 2.0)), ("x", "ValueError"), ("g/b", group_out_of_time("g", 2.0)))
    assert (found.first, found.count) == (["g/a", "x"], 2)


def test_two_steps_that_took_too_long_are_both_told():
    found = causes(("a", step_out_of_time("a", 2.0)), ("b", step_out_of_time("b", 2.0)))
    assert found.first == ["a", "b"]


def test_only_the_first_are_kept_and_all_are_counted():
    found = causes(*((str(number), "ValueError") for number in range(10)), ("t", step_out_of_time("t", 1)), keep=3)
    assert (found.first, found.count) == (["0", "1", "2"], 11)


def test_a_step_that_was_stopped_failed_for_the_reason_that_it_was_stopped_for():
    told = told_failure(Status.FAILED, KILLED, step_out_of_time("a", 2.0))
    assert (told.kind, told.message) == (FailureKind.TIMEOUT, "step 'a' took longer than total_timeout_s = 2 s")


def test_a_cancelled_step_was_cancelled_for_the_reason_that_somebody_gave():
    assert told_failure(Status.CANCELLED, KILLED, "wrong data") == Failure(FailureKind.CANCELLED, "wrong data")
    assert told_failure(Status.CANCELLED, KILLED, "") is KILLED
