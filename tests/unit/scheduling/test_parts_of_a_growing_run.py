"""What a growing run is kept in: places in limited containers, edges, times, and what stands in what."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.model.graph import Gather, GroupNode, Output, StepNode
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction, StepDefinition
from mlflow_pipes.scheduling.admission import RUN, Admission
from mlflow_pipes.scheduling.containers import Containers, derived_status, run_status
from mlflow_pipes.scheduling.dependencies import Dependencies
from mlflow_pipes.scheduling.timers import HELD_POLL_MOST_S, Timers

STEP = StepDefinition("s", CodeFingerprint("0"), PickledFunction("s", b""))


def node(name, *parents, group=None, after=(), after_any=(), tolerates=()):
    outputs = [Output(parent) for parent in parents] + [Output(parent, or_failure=True) for parent in tolerates]
    return StepNode(name, STEP, {"x": Gather("list", tuple(outputs))}, after=after, after_any=after_any, group=group)


def nodes(*given_nodes):
    return {one.id: one for one in given_nodes}


# --- places in limited containers ---------------------------------------------------------------------------------


@given(
    limits=st.tuples(*[st.sampled_from([None, 1, 2, 3])] * 4),
    orders=st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.integers(0, 3)), max_size=60),
)
def test_never_more_are_let_in_than_the_limits_and_nobody_waits_while_there_is_room(limits, orders):
    # a run with container c, in it d and e; n0..n11 stand in the run, c, d and e by turns
    around = {"d": "c", "e": "c"} | {
        f"n{number}": place for number in range(12) if (place := [None, "c", "d", "e"][number % 4]) is not None
    }
    at_most = dict(zip([RUN, "c", "d", "e"], limits, strict=True))
    admission = Admission(around.get)
    for container, limit in at_most.items():
        admission.limit(container, limit)

    def containers(name):
        found, place = [RUN], around.get(name)
        while place is not None:
            found.append(place)
            place = around.get(place)
        return found

    inside, waiting = set(), set()

    def check():
        taken = Counter(container for name in inside for container in containers(name))
        full = {container for container, limit in at_most.items() if limit is not None and taken[container] >= limit}
        assert all(limit is None or taken[container] <= limit for container, limit in at_most.items())
        assert all(full.intersection(containers(name)) for name in waiting), "somebody waits though there is room"

    def leave(name):
        inside.discard(name)
        waiting.discard(name)
        admitted = admission.leave(name)
        assert waiting.issuperset(admitted)
        waiting.difference_update(admitted)
        inside.update(admitted)

    for number, leaves, priority in orders:
        name = f"n{number}"
        if leaves:
            leave(name)
        elif admission.admit(name, (-priority, 0.0, number)):
            waiting.discard(name)
            inside.add(name)
        else:
            waiting.add(name)
        check()
    while inside:
        leave(min(inside))
        check()
    assert not waiting, "somebody was never let in"


def test_who_ranks_first_is_let_in_first():
    admission = Admission({}.get)
    admission.limit(RUN, 1)
    assert admission.admit("first", (0, 0.0, 0))
    assert not admission.admit("low", (0, 0.0, 1))
    assert not admission.admit("high", (-5, 0.0, 2))
    assert admission.leave("first") == ["high"]
    assert admission.leave("high") == ["low"]


def test_a_step_that_is_tried_again_keeps_its_place():
    admission = Admission({}.get)
    admission.limit(RUN, 1)
    assert admission.admit("a", (0, 0.0, 0))
    assert not admission.admit("b", (0, 0.0, 1))
    assert admission.admit("a", (0, 0.0, 0))


# --- edges --------------------------------------------------------------------------------------------------------


def test_a_node_waits_for_data_and_for_order():
    edges = Dependencies()
    assert edges.add(node("a"))
    assert edges.add(node("b"))
    assert not edges.add(node("c", "a", after=("b",)))
    assert not edges.arrived("a", "c")
    assert edges.arrived("b", "c")
    assert list(edges.children("a")) == ["c"]


def test_a_parent_is_tolerated_only_where_nothing_else_needs_it():
    edges = Dependencies()
    edges.add(node("some", tolerates=("a",)))
    edges.add(node("both", "a", tolerates=("a",)))
    edges.add(node("order", after_any=("a",)))
    edges.add(node("needed", after=("a",), after_any=("a",)))
    assert [name for name in ("some", "both", "order", "needed") if edges.tolerates(name, "a")] == ["some", "order"]
    assert edges.required("some") == set()
    assert edges.required("both") == {"a"}


def test_a_node_can_wait_for_others_than_its_parents():
    edges = Dependencies()
    edges.add(node("made"))
    edges.add(node("reader", "whole"))
    assert not edges.wait_again("reader", {"made"})
    assert list(edges.children("made")) == ["reader"]
    assert edges.arrived("made", "reader")
    assert edges.wait_again("reader", set())


# --- times --------------------------------------------------------------------------------------------------------


def test_what_is_due_comes_once_and_in_order():
    timers = Timers()
    assert timers.next_due() is None
    timers.retry_at(5.0, "late")
    timers.retry_at(2.0, "early")
    timers.end_by(3.0, "group")
    assert timers.next_due() == 2.0
    assert list(timers.retries_due(4.0)) == ["early"]
    assert list(timers.deadlines_due(4.0)) == ["group"]
    assert list(timers.retries_due(9.0)) == ["late"]
    assert timers.next_due() is None


def test_a_held_key_is_looked_at_less_and_less_often_up_to_a_bound():
    timers, now, waits = Timers(), 0.0, []
    for _ in range(20):
        timers.hold("a", now)
        waits.append(timers.next_due() - now)
        now = timers.next_due()
        assert timers.held_due(now) == ["a"]
    assert waits == sorted(waits)
    assert abs(waits[-1] - HELD_POLL_MOST_S) < 1e-9
    timers.let_go("a")
    assert timers.next_due() is None


def test_a_run_that_stops_forgets_what_would_begin_something_and_may_keep_deadlines():
    timers = Timers()
    timers.retry_at(1.0, "a")
    timers.hold("b", 0.0)
    timers.end_by(7.0, "c")
    timers.stop(deadlines=False)
    assert timers.next_due() == 7.0
    timers.stop(deadlines=True)
    assert timers.next_due() is None


# --- what stands in what ------------------------------------------------------------------------------------------


def test_a_sub_pipeline_ends_with_its_last_step_and_a_grown_step_only_says_so():
    containers = Containers()
    containers.add({}, nodes(node("search")))
    containers.add(
        {"g": GroupNode("g", "g", group="search")}, nodes(node("a", group="g"), node("b", group="search")), "search"
    )
    assert containers.step_started("a") == ["g"]
    assert containers.step_ended("a", Status.REUSED) == [("g", Status.REUSED)]
    assert containers.is_open("search")
    assert containers.step_ended("b", Status.SUCCEEDED) == [("search", Status.SUCCEEDED)]
    assert containers.is_inside("a", "search")
    assert not containers.all_reused("search")


def test_the_first_that_ended_badly_is_named_by_what_it_stands_in():
    containers = Containers()
    containers.add({}, nodes(node("outer")))
    containers.add({}, nodes(node("inner", group="outer")), "outer")
    containers.add({}, nodes(node("a", group="inner"), node("b", group="inner")), "inner")
    containers.step_ended("b", Status.FAILED)
    assert containers.step_ended("a", Status.CANCELLED) == [("inner", Status.FAILED)]
    assert containers.step_ended("inner", Status.FAILED) == [("outer", Status.FAILED)]
    assert containers.first_bad("inner") == "step 'b' failed"
    assert containers.first_bad("outer") == "step 'inner' failed"


def test_what_returns_nothing_but_values_has_ended_at_once():
    containers = Containers()
    containers.add({}, nodes(node("empty")))
    assert containers.add({}, {}, "empty") == [("empty", Status.SUCCEEDED)]


def test_a_step_that_is_made_again_opens_what_it_stands_in():
    containers = Containers()
    containers.add({}, nodes(node("outer")))
    containers.add({}, nodes(node("a", group="outer")), "outer")
    containers.step_ended("a", Status.REUSED)
    assert containers.step_reopened("a", Status.REUSED) == "outer"
    assert containers.is_open("outer")
    assert containers.step_ended("a", Status.SUCCEEDED) == [("outer", Status.SUCCEEDED)]


@given(st.lists(st.sampled_from([status for status in Status if status.ended and status is not Status.INTERRUPTED])))
def test_something_made_of_steps_is_as_good_as_the_worst_of_them(statuses):
    worst = next((bad for bad in (Status.FAILED, Status.CANCELLED, Status.SKIPPED) if bad in statuses), None)
    good = Status.REUSED if statuses and set(statuses) == {Status.REUSED} else Status.SUCCEEDED
    assert derived_status(statuses) is (worst or good)


def test_a_run_whose_bad_ends_are_all_tolerated_succeeds():
    assert run_status([], cancel_requested=False, timed_out=False) is Status.SUCCEEDED
    assert run_status([Status.SKIPPED], cancel_requested=False, timed_out=False) is Status.SUCCEEDED
    assert run_status([Status.FAILED, Status.CANCELLED], cancel_requested=True, timed_out=False) is Status.FAILED
    assert run_status([Status.CANCELLED], cancel_requested=True, timed_out=False) is Status.CANCELLED
    assert run_status([], cancel_requested=False, timed_out=True) is Status.FAILED
