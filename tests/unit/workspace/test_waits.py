"""For what steps waited, derived from when they and the others ran."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.model.run import Status
from mlflow_pipes.workspace.waiting import WORTH_TELLING_S, StepTimes, waits_of

NOW = 100.0


def ran(node, start, end, *parents, target="local", status=Status.SUCCEEDED, attempts=()):
    return StepTimes(node, status, parents, target, start, end, attempts)


def waits(asked, *others, holders=(), certain=True):
    steps = {step.node: step for step in [*others, asked]}
    found = waits_of(asked, steps, 0.0, NOW, holders, certain=certain)
    return [(wait.kind, wait.since, wait.until, wait.on) for wait in found]


def test_a_step_waits_for_the_last_of_its_inputs():
    one, two = ran("one", 0.0, 3.0), ran("two", 0.0, 5.0)
    assert waits(ran("sum", 5.01, 6.0, "one", "two"), one, two) == [("inputs", 0.0, 5.0, ("two",))]


def test_a_step_that_others_kept_off_its_target_names_the_one_that_left_it():
    one, other = ran("one", 0.0, 3.0), ran("other", 0.0, 2.0, target="gpu")
    assert waits(ran("late", 3.01, 4.0), one, other) == [("room", 0.0, 3.01, ("one",))]


def test_with_nothing_in_the_way_it_was_the_target_that_had_to_begin():
    assert waits(ran("first", 0.4, 1.0)) == [("target", 0.0, 0.4, ())]


def test_a_reused_step_waited_for_the_run_that_was_computing_it():
    load = ran("load", 0.0, 1.0)
    reused = ran("train", 8.0, 8.0, "load", status=Status.REUSED)
    assert waits(reused, load, holders=[("other", 0.5, 7.99)]) == [
        ("inputs", 0.0, 1.0, ("load",)),
        ("key", 1.0, 7.99, ("other",)),
    ]


def test_a_key_that_was_given_back_leads_to_a_wait_for_room():
    busy = ran("busy", 0.0, 9.0)
    assert waits(ran("train", 9.01, 10.0), busy, holders=[("other", 0.0, 4.0)]) == [
        ("key", 0.0, 4.0, ("other",)),
        ("room", 4.0, 9.01, ("busy",)),
    ]


def test_time_between_attempts_is_a_wait_for_the_next():
    flaky = ran("flaky", 0.0, 9.0, attempts=((0.0, 1.0), (3.0, 4.0), (8.0, 9.0)))
    assert waits(flaky) == [("retry", 1.0, 3.0, ()), ("retry", 4.0, 8.0, ())]


def test_a_step_waits_for_room_then_for_tokens():
    busy = ran("busy", 0.0, 3.0)
    train = replace(ran("train", 9.02, 10.0), token_waits=((3.01, 9.0, "1 of token 'database'"),))
    assert waits(train, busy) == [
        ("room", 0.0, 3.01, ("busy",)),
        ("tokens", 3.01, 9.0, ("1 of token 'database'",)),
    ]


def test_each_attempt_may_wait_for_tokens():
    waited = ((0.0, 1.0, "a"), (4.0, 7.0, "b"))
    flaky = replace(ran("flaky", 1.0, 9.0, attempts=((1.0, 2.0), (7.01, 9.0))), token_waits=waited)
    assert waits(flaky) == [("tokens", 0.0, 1.0, ("a",)), ("retry", 2.0, 4.0, ()), ("tokens", 4.0, 7.0, ("b",))]


def test_under_way_a_step_says_which_tokens_it_waits_for():
    load = ran("load", 0.0, 5.0)
    asked = StepTimes("train", Status.QUEUED, ("load",), "local", short="1 of token 'database': ...")
    assert waits(asked, load)[1:] == [("tokens", 5.0, None, ("1 of token 'database': ...",))]
    again = replace(asked, start=6.0, attempts=((6.0, 8.0),))
    assert waits(again, load)[-1] == ("tokens", 8.0, None, ("1 of token 'database': ...",))


def test_under_way_a_step_says_which_inputs_are_not_there():
    load = ran("load", 0.0, None, status=Status.RUNNING)
    done = ran("done", 0.0, 1.0)
    asked = StepTimes("train", Status.WAITING, ("load", "done"))
    assert waits(asked, load, done) == [("inputs", 0.0, None, ("load",))]


def test_under_way_a_queued_step_says_what_fills_its_target():
    load, busy = ran("load", 0.0, 1.0), ran("busy", 1.0, None, status=Status.RUNNING)
    elsewhere = ran("elsewhere", 1.0, None, target="gpu", status=Status.RUNNING)
    asked = StepTimes("train", Status.QUEUED, ("load",), "local")
    assert waits(asked, load, busy, elsewhere) == [("inputs", 0.0, 1.0, ("load",)), ("room", 1.0, None, ("busy",))]


def test_under_way_a_step_whose_key_another_run_holds_says_which():
    asked = StepTimes("train", Status.WAITING)
    assert waits(asked, holders=[("other", 0.0, None)]) == [("key", 0.0, None, ("other",))]
    assert waits(asked) == [("key", 0.0, None, ())]


def test_under_way_a_step_that_failed_waits_for_its_next_attempt():
    asked = ran("flaky", 0.0, None, status=Status.QUEUED, attempts=((0.0, 1.0),))
    assert waits(asked) == [("retry", 1.0, None, ())]


def test_what_was_never_reached_waited_for_nothing():
    load = ran("load", 0.0, 1.0, status=Status.FAILED)
    assert waits(StepTimes("train", Status.SKIPPED, ("load",), end=1.0), load) == []


moments = st.integers(0, 20).map(lambda tenths: tenths / 4)
spans = st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair)))


@st.composite
def histories(draw):
    steps = []
    for index in range(draw(st.integers(1, 6))):
        parents = draw(st.sets(st.integers(0, max(0, index - 1)), max_size=2)) if index else set()
        status = draw(st.sampled_from(list(Status)))
        start, end = draw(st.one_of(st.just((None, None)), spans))
        names = tuple(f"n{parent}" for parent in sorted(parents))
        over = end if status.ended else None
        steps.append(StepTimes(f"n{index}", status, names, draw(st.sampled_from(["", "local"])), start, over))
    return {step.node: step for step in steps}


@given(steps=histories(), holders=st.lists(spans, max_size=2), lasting=st.booleans())
def test_waits_follow_each_other_are_worth_telling_and_only_the_last_may_last(steps, holders, lasting):
    held = [("other", start, None if lasting else end) for start, end in holders]
    for step in steps.values():
        found = waits_of(step, steps, 0.0, 5.0, held)
        for wait in found[:-1]:
            assert wait.until is not None
        for wait in found:
            assert wait.until is None or wait.seconds(5.0) >= WORTH_TELLING_S
            assert wait.seconds(5.0) >= 0.0
        for before, after in itertools.pairwise(found):
            assert before.until <= after.since
