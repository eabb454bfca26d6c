"""Environments of steps and pipelines, as declared."""

from dataclasses import replace

import pytest

from mlflow_pipes import Environment, pipeline, step
from mlflow_pipes.content import load, store
from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.model.graph import Growth, Output
from mlflow_pipes.stores.memory import MemoryDatastore

LISTED = Environment(requirements=["toolz==1.0.0"], environ={"A": "b"})


@step
def plain(x: int) -> int:
    return x


@step(environment="small")
def small(x: int) -> int:
    return x


@pipeline(environment="large")
def inner(x: int):
    return plain(x)


@pipeline(environment=LISTED)
def outer(x: int = 1):
    return plain.options(environment="default", name="here")(inner(small(plain(x))))


def test_what_a_call_names_comes_before_its_step_its_pipeline_and_the_pipeline_around(declared):
    graph = declared(outer())
    assert {node.id: node.options.environment for node in graph.nodes.values()} == {
        "plain": LISTED,
        "small": "small",
        "inner/plain": "large",
        "here": "default",
    }


def test_steps_without_an_environment_have_none(declared):
    (node,) = declared(plain(1)).nodes.values()
    assert node.options.environment is None


@pytest.mark.parametrize("wrong", [3, "", ["numpy"]])
def test_an_environment_is_a_name_or_declared(wrong):
    with pytest.raises(DeclarationError, match="Environment\\(requirements"):
        plain.options(environment=wrong)
    with pytest.raises(DeclarationError, match="Environment\\(requirements"):
        outer.options(environment=wrong)


def test_calls_that_a_step_returns_keep_their_environments(declared):
    (node,) = declared(plain.options(environment=LISTED)(1)).nodes.values()
    growth = Growth({node.id: replace(node, arguments={})}, {}, Output(node.id))
    datastore = MemoryDatastore()
    (read,) = load(store(growth, datastore), datastore).nodes.values()
    assert read.options.environment == LISTED
    assert read.step.code.shape == node.step.code.shape
