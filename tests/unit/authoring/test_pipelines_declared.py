"""Pipelines: declared once, nested, checked."""

# ruff: noqa: PLW0108, RUF043 - calls are made late; messages are matched as patterns

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from mlflow_pipes.authoring import PipelineCall, graph_of, pipeline, step, to_networkx
from mlflow_pipes.errors import ArgumentError, DeclarationError, GraphError
from mlflow_pipes.model.graph import Constant, Gather, Output


class Split(NamedTuple):
    train: list[float]
    test: list[float]


@step
def load(folder: Path) -> list[float]:
    return [float(len(str(folder)))]


@step
def split(rows: list[float], share: float = 0.2) -> Split:
    return Split(rows, rows)


@step
def train(rows: list[float], depth: int) -> float:
    return depth


@step
def choose(models: list[float], test: list[float]) -> float:
    return max(models)


@step
def notify(text: str) -> None: ...


@pipeline
def flight_delays(folder: Path, depths: tuple[int, ...] = (4, 8)) -> float:
    """Predict delays."""
    parts = split(load(folder))
    models = [train(parts.train, depth=depth) for depth in depths]
    return choose(models, parts.test)


@pipeline(fail_fast=False, experiment="nightly", timeout_s=60, tags={"team": "delays"})
def outer(folder: Path) -> dict[str, object]:
    best = flight_delays(folder, (1,))
    notify.after(best)("done")
    return {"best": best, "folder": folder}


def test_a_pipeline_call_declares_and_runs_nothing(declared):
    call = flight_delays(Path("data"))
    assert isinstance(call, PipelineCall)
    assert repr(call) == "<pipeline call flight_delays: 5 steps, not run yet>"
    graph = declared(call)
    assert list(graph.nodes) == ["load", "split", "train[depth=4]", "train[depth=8]", "choose"]
    assert graph.output == Output("choose")
    assert graph.parameters == {"folder": Path("data"), "depths": (4, 8)}
    assert (graph.name, graph.doc, graph.file) == ("flight_delays", "Predict delays.", __file__)
    assert graph.fail_fast


def test_edges_name_the_part_they_take(declared):
    graph = declared(flight_delays(Path("data")))
    assert graph.nodes["train[depth=4]"].arguments == {"rows": Output("split", ("train",)), "depth": Constant(4)}
    assert graph.nodes["choose"].arguments == {
        "models": Gather("list", (Output("train[depth=4]"), Output("train[depth=8]"))),
        "test": Output("split", ("test",)),
    }


def test_options_of_a_pipeline_are_in_its_graph(declared):
    graph = declared(outer(Path("data")))
    assert (graph.fail_fast, graph.experiment, graph.timeout_s, graph.tags) == (
        False,
        "nightly",
        60,
        {"team": "delays"},
    )
    changed = declared(outer.options(fail_fast=True, tags={})(Path("data")))
    assert (changed.fail_fast, changed.experiment, changed.tags) == (True, "nightly", {})


def test_a_pipeline_in_a_pipeline_is_a_group(declared):
    graph = declared(outer(Path("data")))
    assert list(graph.nodes) == [f"flight_delays/{name}" for name in ("load", "split", "train", "choose")] + ["notify"]
    (group,) = graph.groups.values()
    assert (group.id, group.name, group.group) == ("flight_delays", "flight_delays", None)
    assert group.parameters == {"folder": Path("data"), "depths": (1,)}
    assert graph.nodes["flight_delays/load"].group == "flight_delays"
    assert graph.nodes["notify"].group is None
    assert graph.nodes["notify"].after == ("flight_delays/choose",)
    assert graph.output == Gather("dict", (Output("flight_delays/choose"), Constant(Path("data"))), ("best", "folder"))


def test_groups_nest_and_pass_on_order_and_target(declared):
    @pipeline(target="big")
    def inner(rows):
        train(rows, 1)
        train.options(target="small")(rows, 2)

    @pipeline
    def middle(rows):
        inner(rows)

    @pipeline
    def top():
        rows = load(Path())
        noted = notify("x")
        middle.after(noted)(rows)

    graph = declared(top())
    assert list(graph.nodes)[2:] == ["middle/inner/train[depth=1]", "middle/inner/train[depth=2]"]
    assert {group.id: group.group for group in graph.groups.values()} == {"middle": None, "middle/inner": "middle"}
    assert graph.groups["middle/inner"].parameters == {"rows": "output of load"}
    named = [(node.options.target, node.options.pipeline_target) for node in graph.nodes.values()]
    assert named == [(None, None), (None, None), (None, "big"), ("small", "big")]
    assert [node.after for node in graph.nodes.values()] == [(), (), ("notify",), ("notify",)]


def test_a_sub_pipeline_without_steps_leaves_no_group(declared):
    @pipeline
    def maybe(flag: bool):
        if flag:
            notify("x")

    @pipeline
    def top():
        maybe(False)
        maybe(True)

    graph = declared(top())
    assert list(graph.groups) == ["maybe[flag=True]"]


def test_a_pipeline_whose_parameters_have_defaults_stands_for_its_call(declared):
    @pipeline
    def simple(text: str = "x"):
        notify(text)

    assert list(declared(simple).nodes) == ["notify"]
    with pytest.raises(ArgumentError, match="missing 'folder'"):
        declared(flight_delays)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: flight_delays(), ["pipeline 'flight_delays'", "missing 'folder'"]),
        (lambda: flight_delays(Path(), depth=(1,)), ["no parameter 'depth'", "did you mean 'depths'?"]),
        (lambda: flight_delays(Path(), [4, 8]), ["wants tuple[int, ...] for 'depths'", "write a tuple"]),
        (lambda: flight_delays("data"), ["for 'folder'", "write Path('data')"]),
    ],
)
def test_wrong_arguments_of_a_pipeline_are_named(call, said):
    with pytest.raises(ArgumentError) as caught:
        call()
    for text in said:
        assert text in str(caught.value)


def test_a_pipeline_without_steps_is_refused():
    @pipeline
    def empty():
        return 5

    with pytest.raises(GraphError, match="pipeline 'empty' has no steps"):
        empty()


def test_a_cycle_through_after_names_its_nodes(declared):
    @pipeline
    def circle():
        rows = load(Path())
        best = train(rows, 3)
        notify("x")
        rows.after(best)

    with pytest.raises(
        GraphError, match=r"cycle \(through `\.after`\): (load -> train -> load|train -> load -> train);"
    ):
        declared(circle())


def test_an_order_against_that_of_declaration_puts_parents_first(declared):
    @pipeline
    def late():
        first, second = notify("a"), notify("b")
        load(Path())
        first.after(second)

    assert list(declared(late()).nodes) == ["notify[text=b]", "load", "notify[text=a]"]


def test_recursion_without_end_is_an_error():
    @pipeline
    def endless(n: int):
        notify("x")
        endless(n + 1)

    with pytest.raises(GraphError, match="'endless' stands inside itself 64 pipelines deep"):
        endless(0)


def test_recursion_with_an_end_is_fine(declared):
    @pipeline
    def halve(n: int):
        notify("x")
        if n > 1:
            halve(n // 2)

    assert list(declared(halve(4)).nodes) == ["notify", "halve/notify", "halve/halve/notify"]


def test_references_stay_in_their_pipeline(declared):
    outside = load(Path())
    leaked = []

    @pipeline
    def leaks():
        leaked.append(load(Path()))

    @pipeline
    def uses(ref):
        train(ref, 3)

    @pipeline
    def closes():
        train(outside, 3)

    @pipeline
    def returns():
        notify("x")
        return [leaked[0]]

    @pipeline
    def waits():
        notify.after(leaked[0])("x")

    @pipeline
    def orders():
        notify("x").after(leaked[0])

    leaks()
    with pytest.raises(GraphError, match="pipeline 'uses' was given 'load' for 'ref', made outside of it"):
        uses(outside)
    with pytest.raises(GraphError, match="step 'train', called in pipeline 'closes', .* 'load', called outside of any"):
        closes()
    with pytest.raises(GraphError, match="pipeline 'returns' returned the output of 'load', .* in pipeline 'leaks'"):
        returns()
    with pytest.raises(GraphError, match="step 'notify', called in pipeline 'waits', .* in pipeline 'leaks'"):
        waits()
    with pytest.raises(GraphError, match="'load' was called in pipeline 'leaks', 'notify' in pipeline 'orders'"):
        orders()
    with pytest.raises(GraphError, match=r"'load' was called in pipeline 'leaks'.*run\(leaks\(...\)\)"):
        declared(leaked[0])


def test_an_error_in_a_pipeline_function_leaves_no_scope_behind(declared):
    @pipeline
    def broken():
        notify("x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert list(declared(notify("x")).nodes) == ["notify"]


@pytest.mark.parametrize(
    ("use", "tried"),
    [(lambda c: c.best, r"\.best"), (lambda c: c["best"], r"\['best'\]"), (bool, "condition"), (list, "loop")],
)
def test_a_pipeline_call_is_no_value(use, tried):
    with pytest.raises(
        GraphError, match=f"'outer' is declared but has not run.*{tried}.*run\\(outer\\(...\\)\\).output"
    ):
        use(outer(Path()))


@pytest.mark.parametrize("wrong", [load, 5, None, [1], flight_delays.function])
def test_graph_of_takes_calls_only(wrong):
    with pytest.raises(GraphError, match=r"call; write run\(|call it: run\(load\(\.\.\.\)\)"):
        graph_of(wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout_s": 0}, "pipeline 'simple'.*timeout_s=0 is not a number above 0"),
        ({"fail_fast": "no"}, "fail_fast='no' is neither"),
        ({"failfast": True}, "no option 'failfast'; did you mean 'fail_fast'"),
        ({"tags": ["a"]}, "tags=.* not a dict of texts"),
        ({"target": 5}, "target=5 is not the name"),
        ({"name": "a/b"}, "name='a/b'"),
    ],
)
def test_impossible_options_of_a_pipeline_are_named(options, said):
    def simple():
        notify("x")

    with pytest.raises(DeclarationError, match=said):
        pipeline(**options)(simple)
    with pytest.raises(DeclarationError, match=said):
        pipeline(simple).options(**options)


def test_networkx_sees_data_and_order(declared):
    network = to_networkx(declared(outer(Path())))
    assert network.name == "outer"
    assert network.nodes["flight_delays/train"]["step"] == "train"
    edge = network["flight_delays/split"]["flight_delays/train"][0]
    assert edge == {"parameter": "rows", "path": ("train",), "kind": "data"}
    assert network["flight_delays/choose"]["notify"][0]["kind"] == "after"


def test_a_pipeline_may_be_told_which_steps_to_call(declared):
    @pipeline
    def apply(rows: list[float], trainers: list):
        return [trainer(rows, 3) for trainer in trainers]

    @pipeline
    def top():
        rows = load(Path())
        return apply(rows, [train, step(name="train again")(train.function)])

    assert list(declared(top()).nodes) == ["load", "apply/train", "apply/train again"]
    assert declared(apply.options(name="x")([1.0], [train])).parameters["trainers"] == [train]
