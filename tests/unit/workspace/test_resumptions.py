"""What the ledger keeps of a run for those that resume it."""

import pytest

from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.machine.processes import this_host
from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.resumption import UNKNOWN_EFFECT, StoredCall, may_have_happened
from mlflow_pipes.model.run import AttemptEnded, KeyReleased, LookUp, RunEnded, Status
from mlflow_pipes.testing.ledger_records import T0, changed, declared, ended_attempt, hex_id, key_of, started, value
from mlflow_pipes.workspace.ledger.history import History
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.resumptions import resumption, stored_call, under_way
from mlflow_pipes.workspace.resuming import only_one_resumes
from tests.unit.workspace.test_sql_ledger import DEAD


@pytest.fixture
def ledger(either_ledger):
    opened = SqlLedger.open(either_ledger)
    yield opened
    opened.close()


def begun(run, node, attempts=1):
    return [
        declared(run, node, effect=True),
        changed(run, node, Status.RUNNING, key=key_of(node.partition("[")[0]), attempts=attempts),
    ]


def ended(run, node, number=1, **changes):
    return AttemptEnded(*ended_attempt(run, node)[:2], number, *ended_attempt(run, node)[3:], **changes)


def failed(kind):
    return Failure(kind, "no luck")


def of_line(ledger, run="one"):
    return resumption(ledger.database, hex_id(run), hex_id("one"))


def test_an_effect_that_ended_well_is_taken_over_whatever_became_of_the_rest(ledger):
    """A step that returned calls has happened when it has returned them, though the run died before they ended."""
    records = [started("one"), *begun("one", "pay"), ended("one", "pay", output=value("the calls"))]
    ledger.exchange([*records, changed("one", "pay", Status.INTERRUPTED)], [], T0)
    found = of_line(ledger)
    assert {effect: done.output for effect, done in found.done.items()} == {("pay", key_of("pay")): value("the calls")}
    assert found.unknown == {}


def test_two_equal_calls_are_two_effects(ledger):
    records = [started("one"), *begun("one", "pay"), ended("one", "pay", output=value("1")), *begun("one", "pay[#2]")]
    ledger.exchange([*records, changed("one", "pay[#2]", Status.INTERRUPTED)], [], T0)
    found = of_line(ledger)
    assert list(found.done) == [("pay", key_of("pay"))]
    assert list(found.unknown) == [("pay[#2]", key_of("pay"))]


def test_what_any_run_of_the_line_did_counts_also_of_one_that_resumed_the_same_run(ledger):
    ledger.exchange([started("one"), *begun("one", "a"), ended("one", "a", output=value("a"))], [], T0)
    for run in ("two", "three"):
        resumed = started(run, resumed_from=hex_id("one"), first_run_id=hex_id("one"), started_at=T0 + 1)
        ledger.exchange([resumed, *begun(run, run), ended(run, run, output=value(run))], [], T0)
    ledger.exchange([started("other"), *begun("other", "b"), ended("other", "b", output=value("b"))], [], T0)
    assert {node for node, _ in of_line(ledger, "two").done} == {"a", "two", "three"}


def test_an_effect_that_an_earlier_run_left_open_is_known_once_a_later_one_did_it(ledger):
    ledger.exchange([started("one"), *begun("one", "pay"), RunEnded(hex_id("one"), Status.FAILED, T0)], [], T0)
    assert of_line(ledger).unknown == {("pay", key_of("pay")): hex_id("one")}
    again = started("two", resumed_from=hex_id("one"), first_run_id=hex_id("one"))
    ledger.exchange([again, *begun("two", "pay"), ended("two", "pay", output=value("done"))], [], T0)
    found = of_line(ledger)
    assert (found.done["pay", key_of("pay")].run_id, found.unknown) == (hex_id("two"), {})


def test_steps_without_effects_are_left_to_the_step_cache(ledger):
    records = [started("one"), declared("one", "train"), changed("one", "train", Status.RUNNING, key=key_of("train"))]
    ledger.exchange([*records, ended("one", "train")], [], T0)
    assert (of_line(ledger).done, of_line(ledger).unknown) == ({}, {})


@pytest.mark.parametrize(
    ("begun", "ends", "expected"),
    [
        (1, [], True),
        (2, [FailureKind.EXCEPTION], True),
        (1, [FailureKind.EXCEPTION], False),
        (1, [FailureKind.CANCELLED], True),
        (1, [FailureKind.LOST], True),
        (1, [FailureKind.UNSTORABLE], True),
        (1, [FailureKind.WORLD], True),
        (2, [FailureKind.INPUT, FailureKind.SOURCE_CHANGED], False),
        (2, [FailureKind.TIMEOUT, FailureKind.EXCEPTION], True),
        (1, [None], False),
        (0, [], False),
    ],
)
def test_an_effect_may_have_happened_unless_each_attempt_failed_by_itself(begun, ends, expected):
    assert may_have_happened(begun, ends) is expected


def test_an_effect_that_ran_when_its_orchestrator_died_is_shown_as_unknown(ledger):
    dead = started("one", host=this_host(), process=DEAD)
    others = [declared("one", "train"), changed("one", "train", Status.RUNNING, attempts=1)]
    tried = [*begun("one", "pay", 1), *begun("one", "sent", 2), ended("one", "sent", failure=failed(FailureKind.LOST))]
    between = [*begun("one", "retries"), ended("one", "retries", failure=failed(FailureKind.EXCEPTION))]
    grown = [*begun("one", "grown"), ended("one", "grown", output=value("the calls"))]
    waits = [declared("one", "waits", effect=True)]
    ledger.exchange([dead, *others, *tried, *between, *grown, *waits], [], T0)
    assert ledger.interrupt_dead_runs(T0) == [hex_id("one")]
    steps = {step.node: step for step in History(ledger.database).steps(hex_id("one"))}
    assert {step.status for step in steps.values()} == {"interrupted"}
    assert {node for node, step in steps.items() if step.reason == UNKNOWN_EFFECT} == {"pay", "sent"}


def test_a_call_is_kept_with_its_run_as_it_was(ledger):
    call = StoredCall("/a/flow.py", "flow", "/a", {"fail_fast": False}, {"tags": {"a": "b"}}, b"\x00\xff pickle")
    ledger.exchange(
        [started("one", call=call), started("two"), started("three", call=StoredCall(problem="no"))], [], T0
    )
    assert stored_call(ledger.database, hex_id("one")) == call
    assert stored_call(ledger.database, hex_id("two")) is None
    assert stored_call(ledger.database, hex_id("three")).problem == "no"


def test_the_runs_of_a_line_that_have_not_ended_are_known(ledger):
    ledger.exchange([started("one"), started("other"), RunEnded(hex_id("one"), Status.FAILED, T0)], [], T0)
    assert under_way(ledger.database, hex_id("one")) == []
    ledger.exchange([started("two", resumed_from=hex_id("one"), first_run_id=hex_id("one"))], [], T0)
    assert under_way(ledger.database, hex_id("one")) == [hex_id("two")]


def test_one_run_at_a_time_resumes_a_line(ledger):
    line = {"resumed_from": hex_id("one"), "first_run_id": hex_id("one")}
    two, three = started("two", **line), started("three", **line, process="2:2")
    ledger.exchange([two], [], T0)
    only_one_resumes(ledger, two)
    with pytest.raises(DeclarationError, match=f"resumed by run {hex_id('two')[:8]} on elsewhere"):
        only_one_resumes(ledger, three)
    ledger.exchange([RunEnded(hex_id("two"), Status.FAILED, T0)], [], T0)
    only_one_resumes(ledger, three)


def test_requests_to_stop_a_part_reach_the_next_heartbeats_in_order_until_the_end(ledger):
    ledger.exchange([started("one"), started("two")], [], T0)
    assert ledger.request_cancel(hex_id("one"), T0 + 2, node="train[a=1]", reason="too slow")
    assert ledger.request_cancel(hex_id("one"), T0 + 1, node="load")
    for _ in range(2):
        heard = ledger.heartbeat(hex_id("one"), T0)
        assert not heard.cancel_requested
        assert [(one.node, one.reason) for one in heard.cancel_steps] == [("load", ""), ("train[a=1]", "too slow")]
    assert ledger.heartbeat(hex_id("two"), T0).cancel_steps == []
    ledger.request_cancel(hex_id("one"), T0, reason="the data are wrong")
    heard = ledger.heartbeat(hex_id("one"), T0)
    assert (heard.cancel_requested, heard.reason) == (True, "the data are wrong")
    ledger.exchange([RunEnded(hex_id("one"), Status.CANCELLED, T0)], [], T0)
    assert not ledger.request_cancel(hex_id("one"), T0, node="load")


def test_the_line_of_a_run_is_shown_in_mlflow(ledger):
    ledger.exchange([started("two", resumed_from=hex_id("one"), first_run_id=hex_id("one")), started("x")], [], T0)
    tags = {one.run_id: one.tags for one in ledger.pending("here", 10)}
    assert tags[hex_id("two")]["pipes.resumed_from"] == hex_id("one")
    assert "pipes.resumed_from" not in tags[hex_id("x")]


def test_the_claim_of_a_line_is_no_step_of_anybody(ledger):
    two = started("two", resumed_from=hex_id("one"), first_run_id=hex_id("one"))
    only_one_resumes(ledger, two)
    (answer,) = ledger.exchange([two, KeyReleased(key_of("load"), 99)], [LookUp(key_of("load"), hex_id("two"))], T0)
    assert type(answer).__name__ == "Claimed"
    assert not ledger.heartbeat(hex_id("two"), T0).lost_tokens
