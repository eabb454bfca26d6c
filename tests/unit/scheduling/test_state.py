"""The state machine, told what happened, answers what to do."""

from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import RetryPolicy, StepOptions
from mlflow_pipes.scheduling.messages import (
    CancelAttempt,
    CancelRequested,
    Changed,
    ClaimLost,
    Failed,
    Finish,
    HeldElsewhere,
    Known,
    LookUpNode,
    Release,
    Submit,
    Succeeded,
    TimePassed,
    ToDo,
    Unresolvable,
)
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.testing.scenarios import trivial_graph

BOOM = Failure(FailureKind.EXCEPTION, "boom", ("app.Bad", "ValueError", "Exception", "BaseException", "object"))


def machine(edges, slots=2, ranks=None, **kwargs):
    graph = trivial_graph(edges, **kwargs)
    target_of = dict.fromkeys(graph.nodes, "local")
    return RunState(graph, {"local": Capacity(slots, slots=slots)}, target_of, ranks or {}, lambda: 0.5)


def submitted(commands):
    return [command.node for command in commands if isinstance(command, Submit)]


def statuses(commands):
    return {command.node: command.status for command in commands if isinstance(command, Changed)}


def test_a_step_is_looked_up_once_its_inputs_are_there():
    state = machine({"a": [], "b": ["a"]})
    assert state.begin(0.0) == [LookUpNode("a")]
    commands = state.handle(Known("a"), 0.0)
    assert commands == [Changed("a", Status.REUSED), LookUpNode("b")]


def test_a_step_that_nobody_has_done_is_submitted_and_its_success_ends_the_run():
    state = machine({"a": []})
    state.begin(0.0)
    assert state.handle(ToDo("a"), 0.0) == [Submit("a", 1, "local"), Changed("a", Status.RUNNING)]
    assert state.handle(Succeeded("a", 1), 1.0) == [Changed("a", Status.SUCCEEDED), Finish(Status.SUCCEEDED)]


def test_no_more_is_submitted_than_the_target_holds():
    state = machine({name: [] for name in "abc"}, slots=2)
    state.begin(0.0)
    started = [node for name in "abc" for node in submitted(state.handle(ToDo(name), 0.0))]
    assert started == ["a", "b"]
    assert submitted(state.handle(Succeeded("a", 1), 0.0)) == ["c"]


def test_the_longest_path_goes_first_and_priority_beats_it():
    options = {"urgent": StepOptions(priority=5)}
    state = machine({name: [] for name in ("first", "short", "long", "urgent")}, 1, {"long": 9.0}, options=options)
    state.begin(0.0)
    for name in ("first", "short", "long", "urgent"):
        state.handle(ToDo(name), 0.0)
    assert submitted(state.handle(Succeeded("first", 1), 0.0)) == ["urgent"]
    assert submitted(state.handle(Succeeded("urgent", 1), 0.0)) == ["long"]


def test_a_failed_attempt_is_tried_again_after_its_delay():
    options = {"a": StepOptions(retries=RetryPolicy(count=1, delay_s=4.0, jitter=0.0))}
    state = machine({"a": []}, options=options)
    state.begin(0.0)
    state.handle(ToDo("a"), 0.0)
    assert statuses(state.handle(Failed("a", 1, BOOM), 10.0)) == {"a": Status.QUEUED}
    assert state.next_wake() == 14.0
    assert submitted(state.handle(TimePassed(), 13.9)) == []
    assert state.handle(TimePassed(), 14.0) == [Submit("a", 2, "local"), Changed("a", Status.RUNNING)]


def test_only_the_exceptions_named_are_tried_again():
    for on, again in ((("ValueError",), True), (("app.Bad",), True), (("KeyError",), False)):
        options = {"a": StepOptions(retries=RetryPolicy(count=1, on=on))}
        state = machine({"a": []}, options=options)
        state.begin(0.0)
        state.handle(ToDo("a"), 0.0)
        assert statuses(state.handle(Failed("a", 1, BOOM), 0.0))["a"] is (Status.QUEUED if again else Status.FAILED)


def test_a_final_failure_gives_the_key_back_and_skips_what_is_below():
    state = machine({"a": [], "b": ["a"], "c": ["b"], "d": []}, fail_fast=False)
    state.begin(0.0)
    state.handle(ToDo("a"), 0.0)
    state.handle(ToDo("d"), 0.0)
    commands = state.handle(Failed("a", 1, BOOM), 0.0)
    assert Release("a") in commands
    assert statuses(commands) == {"a": Status.FAILED, "b": Status.SKIPPED, "c": Status.SKIPPED}
    assert statuses(state.handle(Succeeded("d", 1), 0.0)) == {"d": Status.SUCCEEDED}
    assert state.finished


def test_fail_fast_stops_what_runs_and_what_has_not_begun():
    state = machine({"a": [], "b": [], "c": []}, slots=2)
    state.begin(0.0)
    for name in "abc":
        state.handle(ToDo(name), 0.0)
    commands = state.handle(Failed("a", 1, BOOM), 0.0)
    assert CancelAttempt("b", 1, "local") in commands
    assert statuses(commands) == {"a": Status.FAILED, "c": Status.CANCELLED}
    end = state.handle(Failed("b", 1, Failure(FailureKind.CANCELLED, "cancelled")), 0.0)
    assert end[-1] == Finish(Status.FAILED, "step 'a' failed: boom")


def test_cancel_ends_the_run_once_the_work_has_really_stopped():
    state = machine({"a": [], "b": ["a"]})
    state.begin(0.0)
    state.handle(ToDo("a"), 0.0)
    assert statuses(state.handle(CancelRequested(), 0.0)) == {"b": Status.CANCELLED}
    assert not state.finished
    end = state.handle(Failed("a", 1, Failure(FailureKind.CANCELLED, "cancelled")), 0.0)
    assert end[-1] == Finish(Status.CANCELLED, "cancelled")


def test_a_key_that_another_run_holds_is_asked_for_again_at_growing_intervals():
    state = machine({"a": []})
    state.begin(0.0)
    waits = []
    now = 0.0
    for _ in range(12):
        state.handle(HeldElsewhere("a"), now)
        waits.append(state.next_wake() - now)
        now = state.next_wake()
        assert state.handle(TimePassed(), now) == [LookUpNode("a")]
    assert waits == sorted(waits)
    assert waits[-1] == 0.5


def test_a_lost_input_is_made_again_before_its_consumer_runs_again():
    state = machine({"a": [], "b": ["a"], "c": ["a"]})
    state.begin(0.0)
    state.handle(Known("a"), 0.0)
    state.handle(ToDo("b"), 0.0)
    state.handle(Known("c"), 0.0)
    lost = Failure(FailureKind.INPUT, "blob corrupt")
    commands = state.handle(Failed("b", 1, lost, ("a",)), 0.0)
    assert LookUpNode("a", forget=True) in commands
    assert submitted(state.handle(ToDo("a"), 0.0)) == ["a"]
    commands = state.handle(Succeeded("a", 1), 0.0)
    assert [command for command in commands if isinstance(command, LookUpNode)] == [LookUpNode("b")]
    assert submitted(state.handle(ToDo("b"), 0.0)) == ["b"]
    assert state.handle(Succeeded("b", 2), 0.0)[-1] == Finish(Status.SUCCEEDED)


def test_an_input_that_is_lost_again_and_again_fails_the_step():
    state = machine({"a": []})
    state.begin(0.0)
    lost = Failure(FailureKind.INPUT, "blob corrupt")
    for number in range(1, 5):
        state.handle(ToDo("a"), 0.0)
        commands = state.handle(Failed("a", number, lost), 0.0)
    assert commands[-1] == Finish(Status.FAILED, "step 'a' failed: blob corrupt")


def test_late_and_double_answers_change_nothing():
    options = {"a": StepOptions(retries=RetryPolicy(count=1, delay_s=0.0))}
    state = machine({"a": [], "b": ["a"]}, options=options)
    state.begin(0.0)
    state.handle(ToDo("a"), 0.0)
    state.handle(Failed("a", 1, BOOM), 0.0)
    state.handle(TimePassed(), 1.0)
    assert state.handle(Succeeded("a", 1), 1.0) == []
    state.handle(Succeeded("a", 2), 1.0)
    assert state.handle(Succeeded("a", 2), 1.0) == []


def test_a_run_past_its_timeout_is_stopped_and_failed():
    state = machine({"a": []}, timeout_s=5.0)
    state.begin(100.0)
    state.handle(ToDo("a"), 100.0)
    assert state.next_wake() == 105.0
    assert state.handle(TimePassed(), 105.0) == [CancelAttempt("a", 1, "local")]
    end = state.handle(Failed("a", 1, Failure(FailureKind.CANCELLED, "cancelled")), 105.1)
    assert end[-1] == Finish(Status.FAILED, "the run is past its timeout of 5 s")


def test_a_big_step_is_not_starved_by_small_ones():
    options = {"big": StepOptions(cpus=2)}
    names = ["big", *(f"s{i}" for i in range(60))]
    state = machine({name: [] for name in ["first", *names]}, slots=2, options=options)
    state.begin(0.0)
    started = [node for name in ["first", *names] for node in submitted(state.handle(ToDo(name), 0.0))]
    done = 0
    while "big" not in started:
        started += submitted(state.handle(Succeeded(started[done], 1), 0.0))
        done += 1
    assert done < 25


def test_an_answer_that_comes_after_cancel_gives_the_claimed_key_back():
    state = machine({"a": []})
    state.begin(0.0)
    state.handle(CancelRequested(), 0.0)
    assert state.handle(ToDo("a"), 0.0)[0] == Release("a")


def test_lost_inputs_of_a_step_that_was_stopped_meanwhile_are_not_made_again():
    state = machine({"parent": [], "child": ["parent"]})
    state.begin(0.0)
    state.handle(Known("parent"), 0.0)
    stopped = state.handle(CancelRequested("enough"), 0.0)
    assert stopped[-1] == Finish(Status.CANCELLED, "enough")
    lost = Failure(FailureKind.INPUT, "lost")
    assert state.handle(Unresolvable("child", lost, ("parent",)), 0.0) == []
    assert state.finished


def test_a_queued_step_whose_claim_was_taken_over_is_looked_up_again_instead_of_started():
    state = machine({name: [] for name in "abc"}, slots=1)
    state.begin(0.0)
    for name in "abc":
        state.handle(ToDo(name), 0.0)
    for name in "ab":
        assert state.handle(ClaimLost(name), 1.0) == []
    commands = state.handle(Succeeded("a", 1), 2.0)
    assert submitted(commands) == ["c"]
    assert LookUpNode("b") in commands
    assert Release("a") not in commands
    state.handle(Known("b"), 3.0)
    assert state.handle(Succeeded("c", 1), 3.0)[-1] == Finish(Status.SUCCEEDED)


def test_an_answer_that_comes_twice_gives_no_key_back():
    state = machine({"a": []})
    state.begin(0.0)
    assert submitted(state.handle(ToDo("a"), 0.0)) == ["a"]
    assert state.handle(ToDo("a"), 0.0) == []


def test_a_held_key_is_asked_for_once_until_the_answer_is_there():
    state = machine({"a": []})
    state.begin(0.0)
    state.handle(HeldElsewhere("a"), 0.0)
    assert state.handle(TimePassed(), 1.0) == [LookUpNode("a")]
    assert state.next_wake() is None
    assert state.handle(TimePassed(), 2.0) == []
    state.handle(HeldElsewhere("a"), 3.0)
    assert state.next_wake() > 3.0


def test_a_step_that_waits_for_a_lost_input_is_not_asked_for_though_its_key_was_held():
    state = machine({"a": [], "b": ["a"]})
    state.begin(0.0)
    state.handle(Known("a"), 0.0)
    state.handle(HeldElsewhere("b"), 0.0)
    state.handle(TimePassed(), 1.0)
    gone = Failure(FailureKind.INPUT, "gone")
    assert LookUpNode("a", forget=True) in state.handle(Unresolvable("b", gone, ("a",)), 1.5)
    assert state.handle(TimePassed(), 60.0) == []


def test_a_step_looked_up_again_instead_of_begun_lets_in_the_next_at_once():
    state = machine(dict.fromkeys("abc", ()), max_parallel=1)
    state.begin(0.0)
    for name in "abc":
        state.handle(ToDo(name), 0.0)
    state.handle(ClaimLost("b"), 0.5)
    commands = state.handle(Succeeded("a", 1), 1.0)
    assert LookUpNode("b") in commands
    assert submitted(commands) == ["c"]


def test_a_hook_cancelled_before_its_time_does_not_change_how_the_steps_went():
    state = machine(dict.fromkeys(["a", "told", "tidy"], ()), hooks={"told": "on_success", "tidy": "always"})
    state.begin(0.0)
    state.handle(ToDo("a"), 0.0)
    state.handle(CancelRequested("not wanted", "tidy"), 0.5)
    assert LookUpNode("told") in state.handle(Succeeded("a", 1), 1.0)
    assert state.outcome is Status.SUCCEEDED
    state.handle(Known("told"), 1.0)
    assert state.finished
