"""Names of nodes: readable, unique, stable."""

from __future__ import annotations

import enum
from datetime import date
from pathlib import Path

import pytest

from mlflow_pipes.authoring import pipeline, step
from mlflow_pipes.errors import DeclarationError, GraphError


class Kind(enum.Enum):
    LINEAR = 1
    TREES = 2


@step
def load(folder):
    return folder


@step
def train(data, max_depth=4, seed=0, note=""):
    return data


@step
def other(x=0):
    return x


@step
def fit(**params):
    return params


def names_of(declared, declare):
    """Return the node ids of a pipeline made of *declare*."""

    def made():
        declare()

    return list(declared(pipeline(made)()).nodes)


def test_the_only_call_of_a_step_is_named_as_the_step(declared):
    assert names_of(declared, lambda: train(load(Path("data")), max_depth=8)) == ["load", "train"]


def test_several_calls_show_the_constants_in_which_they_differ(declared):
    def declare():
        data = load("data")
        for depth in (4, 8, 12):
            train(data, max_depth=depth, seed=7)

    assert names_of(declared, declare) == ["load", "train[max_depth=4]", "train[max_depth=8]", "train[max_depth=12]"]


def test_a_default_left_out_shows_beside_those_given(declared):
    assert names_of(declared, lambda: [train(1), train(1, 8)]) == ["train[max_depth=4]", "train[max_depth=8]"]


def test_calls_that_constants_do_not_tell_apart_are_counted(declared):
    assert names_of(declared, lambda: [other(1), other(1), other(1)]) == ["other", "other#2", "other#3"]
    assert names_of(declared, lambda: [other(1), other(2), other(2)]) == ["other[x=1]", "other[x=2]", "other[x=2]#2"]


def test_a_parameter_fed_by_a_step_tells_nothing(declared):
    assert names_of(declared, lambda: other(other(other(1)))) == ["other", "other#2", "other#3"]


def test_an_unrelated_step_changes_no_name(declared):
    def declare():
        for depth in (4, 8):
            train("data", depth)

    def declare_more():
        load("x")
        declare()
        other(3)

    assert set(names_of(declared, declare)) < set(names_of(declared, declare_more))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.5, 2e-05), ["x=1.5", "x=2e-05"]),
        ((True, None), ["x=True", "x=None"]),
        (("linear", "trees"), ["x=linear", "x=trees"]),
        (("a b", "größe"), ["x=a b", "x=größe"]),
        ((Kind.LINEAR, Kind.TREES), ["x=LINEAR", "x=TREES"]),
        ((Path("/data/a.csv"), Path("b.csv")), ["x=a.csv", "x=b.csv"]),
        ((date(2013, 1, 1), date(2013, 2, 1)), ["x=2013-01-01", "x=2013-02-01"]),
        (("a/b", "a#c"), ["x=a_b", "x=a_c"]),
    ],
)
def test_short_constants_of_many_types_show(declared, values, expected):
    assert names_of(declared, lambda: [other(value) for value in values]) == [f"other[{text}]" for text in expected]


@pytest.mark.parametrize("values", [("x" * 50, "y" * 50), ([1], [2]), ("a\n", "b\n"), ("", "")])
def test_long_or_compound_constants_do_not_show(declared, values):
    assert names_of(declared, lambda: [other(value) for value in values]) == ["other", "other#2"]


def test_a_name_that_would_be_too_long_is_counted(declared):
    calls = [{f"parameter_{i}": f"{j}" * 20 for i in range(8)} for j in (1, 2)]
    assert names_of(declared, lambda: [fit(**call) for call in calls]) == ["fit", "fit#2"]


def test_parameters_that_only_some_calls_have_show_there(declared):
    assert names_of(declared, lambda: [fit(kind="linear"), fit(kind="trees", depth=3)]) == [
        "fit[kind=linear]",
        "fit[kind=trees, depth=3]",
    ]


def test_a_name_given_at_the_call_is_taken_as_it_is(declared):
    def declare():
        train.options(name="the best")(1)
        train(2)

    assert names_of(declared, declare) == ["the best", "train"]


def test_a_given_name_wins_over_a_made_one(declared):
    assert names_of(declared, lambda: [other(1), train.options(name="other")(2)]) == ["other#2", "other"]


def test_two_steps_given_one_name_are_refused(declared):
    def declare():
        for depth in (4, 8):
            train.options(name="best")(1, depth)

    with pytest.raises(GraphError, match=r"two steps with one name: 'best' .* 'train' .*options\(name=\.\.\.\)"):
        names_of(declared, declare)


def test_two_functions_of_one_name_are_refused_with_both_files(declared):
    def make():
        @step
        def other():
            return 2

        return other

    with pytest.raises(
        GraphError, match=r"'other' is the function in .*test_node_names.py:\d+ and another one in .*name="
    ):
        names_of(declared, lambda: [other(), make()()])
    assert names_of(declared, lambda: [other(), step(name="another")(make().function)()]) == ["other", "another"]


@pytest.mark.parametrize("name", ["a/b", "a#2", "", "  ", "a\nb", 5])
def test_names_that_ids_use_themselves_are_refused(name):
    with pytest.raises(DeclarationError, match="name="):
        step(name=name)(load.function)
    with pytest.raises(DeclarationError, match="step 'load': name="):
        load.options(name=name)


def test_names_may_be_in_any_language(declared):
    assert names_of(declared, lambda: load.options(name="Daten laden ✈")(1)) == ["Daten laden ✈"]


def test_sub_pipelines_stand_before_a_slash(declared):
    @pipeline
    def evaluate(region):
        other(train(load(region)))

    def declare():
        evaluate("north")
        evaluate("south")
        load("x")

    assert names_of(declared, declare) == [
        *[f"evaluate[region=north]/{name}" for name in ("load", "train", "other")],
        *[f"evaluate[region=south]/{name}" for name in ("load", "train", "other")],
        "load",
    ]
