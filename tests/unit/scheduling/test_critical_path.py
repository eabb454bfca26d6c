"""The critical path of a run: a chain of steps and waits that fills its time."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_pipes.scheduling.critical_path import Timed, critical_path

moments = st.integers(0, 12).map(float)


@st.composite
def timed_steps(draw):
    """Steps with times as wrong as clocks of several machines can make them."""
    steps = []
    for index in range(draw(st.integers(1, 10))):
        parents = draw(st.sets(st.integers(0, max(0, index - 1)), max_size=3)) if index else set()
        start = draw(moments)
        target = draw(st.sampled_from(["", "local", "gpu"]))
        names = tuple(f"n{parent}" for parent in sorted(parents))
        steps.append(Timed(f"n{index}", names, target, start, start + draw(moments)))
    return steps


def told(path):
    return [(link.node, link.because, link.waited_s, link.took_s) for link in path]


@given(steps=timed_steps(), begin=moments, least_wait_s=st.sampled_from([0.0, 0.5, 3.0]))
@example(steps=[Timed("a", (), "local", 0.0, 5.0)], begin=3.0, least_wait_s=0.0)
@example(steps=[Timed("a", (), "local", 5.0, 5.0), Timed("b", (), "local", 5.0, 5.0)], begin=0.0, least_wait_s=0.0)
def test_the_path_fills_the_time_from_the_beginning_to_the_last_end_without_gap_or_overlap(steps, begin, least_wait_s):
    path = critical_path(steps, begin, least_wait_s=least_wait_s)
    makespan = max(begin, *(step.end for step in steps)) - begin
    assert sum(link.waited_s + link.took_s for link in path) == pytest.approx(makespan)
    assert path[-1].end == begin + makespan
    moment = begin
    for link in path:
        assert link.waited_s >= 0.0
        assert link.start - link.waited_s == pytest.approx(moment)
        assert link.end >= link.start
        moment = link.end


@given(steps=timed_steps(), begin=moments)
def test_each_link_waited_for_a_parent_or_for_a_step_of_its_own_target(steps, begin):
    known = {step.node: step for step in steps}
    path = critical_path(steps, begin)
    assert path[0].after is None
    assert path[0].because in {"start", "key"}
    for above, link in itertools.pairwise(path):
        assert link.after == above.node
        if link.because in {"input", "key"}:
            assert above.node in known[link.node].parents
            assert link.because == "input" or not known[link.node].target
        else:
            assert link.because == "room"
            assert known[above.node].target == known[link.node].target != ""


def test_a_step_that_waited_for_room_names_the_step_that_left_it():
    steps = [
        Timed("load", (), "local", 0.1, 1.0),
        Timed("slow", ("load",), "local", 1.0, 5.0),
        Timed("quick", ("load",), "local", 5.0, 7.0),
        Timed("end", ("slow", "quick"), "local", 7.0, 8.0),
    ]
    assert told(critical_path(steps, 0.0)) == [
        ("load", "start", 0.1, 0.9),
        ("slow", "input", 0.0, 4.0),
        ("quick", "room", 0.0, 2.0),
        ("end", "input", 0.0, 1.0),
    ]


def test_a_short_delay_after_the_last_input_is_no_wait_for_room():
    steps = [
        Timed("a", (), "local", 0.0, 1.0),
        Timed("b", (), "local", 0.0, 1.01),
        Timed("c", ("a",), "local", 1.02, 2.0),
    ]
    assert [link.node for link in critical_path(steps, 0.0, least_wait_s=0.05)] == ["a", "c"]
    assert [link.node for link in critical_path(steps, 0.0)] == ["b", "c"]


def test_what_was_reused_leaves_no_room():
    steps = [Timed("known", (), "", 1.0, 1.0), Timed("late", (), "local", 3.0, 4.0)]
    assert told(critical_path(steps, 0.0)) == [("late", "start", 3.0, 1.0)]


def test_a_step_reused_long_after_its_inputs_waited_for_who_computed_the_same():
    steps = [Timed("load", (), "local", 0.0, 1.0), Timed("train", ("load",), "", 9.0, 9.0)]
    assert told(critical_path(steps, 0.0)) == [("load", "start", 0.0, 1.0), ("train", "key", 8.0, 0.0)]


def test_nothing_that_ran_is_no_path():
    assert critical_path([], 0.0) == ()
