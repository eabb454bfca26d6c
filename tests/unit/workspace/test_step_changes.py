"""What became of each step from one run to another."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.workspace.explain import Ingredients
from mlflow_pipes.workspace.step_changes import StepFacts, environment_changes, step_differences, value_changes


def facts(node, key="k", output="o", status=Status.SUCCEEDED, code="c", inputs=None, leaves=(), **more):
    return StepFacts(node, status, key, Ingredients(code, leaves, inputs or {}), output, **more)


def fates(before, after):
    return {one.node: one.fate for one in step_differences(before, after)}


def test_each_step_has_one_fate():
    before = [
        facts("same"),
        facts("reused"),
        facts("changed"),
        facts("unstable"),
        facts("unknown", "", "", Status.SKIPPED),
        facts("gone"),
    ]
    after = [
        facts("same"),
        facts("reused", status=Status.REUSED),
        facts("changed", "k2"),
        facts("unstable", output="o2"),
        facts("unknown"),
        facts("new"),
    ]
    assert fates(before, after) == {
        name: name for name in ("same", "reused", "changed", "unstable", "unknown", "new", "gone")
    }


def test_another_output_under_one_key_is_told_also_when_it_was_reused():
    assert fates([facts("a", output="1")], [facts("a", output="2", status=Status.REUSED)]) == {"a": "unstable"}


def test_a_changed_step_names_the_leaf_of_code():
    old = facts("a", "1", code="x", leaves=(CodeLeaf("function", "app.f", "1"),))
    new = facts("a", "2", code="y", leaves=(CodeLeaf("function", "app.f", "2"),))
    (difference,) = step_differences([old], [new])
    assert [(change.kind, change.name) for change in difference.changes] == [("function", "app.f")]


def test_a_changed_input_names_the_step_above_that_made_it_and_no_other_with_an_equal_output():
    before = [facts("load", output="1"), facts("other", output="7"), facts("train", "a", inputs={"rows": "1"})]
    after = [
        facts("load", "k2", output="2"),
        facts("other", output="2"),
        facts("train", "b", inputs={"rows": "2"}, parents=("load",)),
    ]
    assert step_differences(before, after)[2].came_from == {"rows": ("load",)}


def test_a_collection_of_outputs_names_those_that_are_new_or_differ():
    before = [facts("a", output="1"), facts("b", output="2"), facts("sum", "x", inputs={"values": "12"})]
    after = [
        facts("a", output="1"),
        facts("b", "k2", output="3"),
        facts("c", output="4"),
        facts("sum", "y", inputs={"values": "134"}, parents=("a", "b", "c")),
    ]
    assert step_differences(before, after)[3].came_from == {"values": ("b", "c")}


def test_a_plain_argument_came_from_no_step():
    before = [facts("load", output="2"), facts("train", "a", inputs={"n": "1"}, parameters={"n": "1"})]
    after = [
        facts("load", output="2"),
        facts("train", "b", inputs={"n": "2"}, parameters={"n": "2"}, parents=("load",)),
    ]
    assert step_differences(before, after)[1].came_from == {}


def test_early_cutoff_is_a_changed_step_with_the_same_output():
    (difference,) = step_differences([facts("a", "1")], [facts("a", "2")])
    assert (difference.fate, difference.output_changed) == ("changed", False)


def test_failing_where_it_ended_well_is_a_change_of_status():
    (difference,) = step_differences([facts("a")], [facts("a", output="", status=Status.FAILED)])
    assert difference.status_changed
    (quiet,) = step_differences([facts("a")], [facts("a", status=Status.REUSED)])
    assert not quiet.status_changed


def test_only_notable_changes_of_duration_are_told():
    def change(before, after):
        (one,) = step_differences([facts("a", duration_s=before)], [facts("a", duration_s=after)])
        return one.duration_changed_s

    assert change(1.0, 2.0) == 1.0
    assert change(2.0, 1.0) == -1.0
    assert change(0.01, 0.05) is None, "less than a tenth of a second"
    assert change(100.0, 110.0) is None, "less than a fifth"
    assert change(None, 1.0) is None, "one of them did not run"


def test_new_versions_of_distributions_are_told_once():
    def step(node, version):
        return facts(node, version, code=version, leaves=(CodeLeaf("distribution", "pandas", version),))

    differences = step_differences([step("a", "2.1"), step("b", "2.1")], [step("a", "2.2"), step("b", "2.2")])
    assert [(one.name, one.before, one.after) for one in environment_changes(differences)] == [("pandas", "2.1", "2.2")]


def test_values_that_differ_are_listed_and_not_a_number_equals_itself():
    found = value_changes({"a": 1.0, "n": math.nan, "gone": "x"}, {"a": 2.0, "n": math.nan, "new": 3.0})
    assert [(one.name, one.before, one.after) for one in found] == [
        ("a", 1.0, 2.0),
        ("new", None, 3.0),
        ("gone", "x", None),
    ]


one_step = st.builds(
    facts,
    st.sampled_from(["a", "b", "c"]),
    key=st.sampled_from(["", "1", "2"]),
    output=st.sampled_from(["", "x", "y"]),
    status=st.sampled_from(list(Status)),
    inputs=st.dictionaries(st.sampled_from(["p", "q"]), st.sampled_from(["x", "y"])),
)
runs = st.lists(one_step, max_size=3, unique_by=lambda step: step.node)


@given(before=runs, after=runs)
def test_every_step_of_both_runs_is_told_exactly_once(before, after):
    found = step_differences(before, after)
    assert sorted(one.node for one in found) == sorted({step.node for step in [*before, *after]})


@given(run=runs)
def test_a_run_does_not_differ_from_itself(run):
    assert {one.fate for one in step_differences(run, run)} <= {"same", "reused", "unknown"}
