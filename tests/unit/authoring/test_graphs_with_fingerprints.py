"""``graph_of`` with real fingerprints: the code that a step reaches, and how a worker finds it."""

from __future__ import annotations

import functools

import pytest

from mlflow_pipes.authoring import graph_of, pipeline, step
from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.model.step import ImportedFunction, PickledFunction

FACTOR = 2


def scaled(x):
    return FACTOR * x


@step
def double(x):
    """Twice as much."""
    return scaled(x)


@step(version="7")
def versioned(x):
    return double.function(x)


@pipeline
def both(x: int = 3):
    return versioned(double(double.options(cpus=2)(x)))


def test_calls_of_one_step_share_its_definition():
    graph = graph_of(both)
    first, second, third = graph.nodes.values()
    assert first.step is second.step
    assert first.step.doc == "Twice as much."
    assert {leaf.name.rpartition(".")[2] for leaf in first.step.code.leaves} >= {"double", "scaled", "FACTOR"}
    assert first.step.code.digest != third.step.code.digest


def test_a_worker_finds_the_plain_function_by_its_module():
    reference = next(iter(graph_of(double(1)).nodes.values())).step.function
    assert isinstance(reference, ImportedFunction)
    assert (reference.qualname, reference.file) == ("double", __file__)


def test_a_step_that_another_step_uses_is_in_its_code():
    code = next(iter(graph_of(versioned(1)).nodes.values())).step.code
    assert {leaf.name.rpartition(".")[2] for leaf in code.leaves} >= {"double", "scaled", "FACTOR"}
    assert "version" in {leaf.kind for leaf in code.leaves}


def test_two_graphs_of_one_call_agree():
    call = both()
    assert graph_of(call) == graph_of(call) == graph_of(both(3))


def test_a_nested_function_in_a_file_is_refused_before_anything_runs():
    @step
    def inside(x):
        return x

    with pytest.raises(DeclarationError, match=r"inside .*Move it to the top of its module"):
        graph_of(inside(1))


def test_a_partial_travels_by_value():
    (node,) = graph_of(step(functools.partial(scaled))(x=3)).nodes.values()
    assert isinstance(node.step.function, PickledFunction)


def test_a_new_graph_sees_new_code():
    def cell(source):
        names = {"__name__": "__main__", "step": step}
        exec(source, names)  # a notebook cell
        return names

    names = cell("def helper(x):\n    return x\n\n@step\ndef work(x):\n    return helper(x)\n")
    call = names["work"](1)
    before = graph_of(call).nodes["work"].step.code.digest
    exec("def helper(x):\n    return x + 1\n", names)
    after = graph_of(call).nodes["work"].step.code.digest
    assert before != after
