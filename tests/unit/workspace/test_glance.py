"""What a run is expected to do first, by a look at the ledger's file."""

import sqlite3
import time
from dataclasses import replace

import pytest

from mlflow_pipes import Workspace, pipeline, run, step
from mlflow_pipes.authoring import graph_of
from mlflow_pipes.engine import Inputs
from mlflow_pipes.workspace.glance import first_by_code, first_by_inputs

pytestmark = pytest.mark.usefixtures("ledger_in_workspace")


@step
def load(x: int) -> int:
    return x


@step
def clean(x: int) -> int:
    return x + 1


@step
def train(x: int, y: int) -> int:
    return x * y


@step(reuse="never")
def announce(x: int) -> int:
    return x


@pipeline
def flow(x: int):
    first = load(x)
    return train(clean(first), load(x + 1))


@pipeline
def loud_flow(x: int):
    return announce(train(clean(load(x)), load(x + 1)))


@pipeline
def mapped_flow(x: int):
    return load.map([x, x + 1])


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        yield workspace


@pytest.fixture
def expected(workspace):
    def expected(graph, now=None):
        file = workspace.folder / "ledger.db"
        inputs = Inputs(workspace.datastore)
        inputs.prepare(graph)
        by_inputs = first_by_inputs(graph, inputs, file, time.time() if now is None else now)
        return [node.id for node in first_by_code(graph, file)], [node.id for node in by_inputs]

    return expected


def with_code(graph, name, digest):
    def changed(node):
        if node.step.name != name:
            return node
        return replace(node, step=replace(node.step, code=replace(node.step.code, digest=digest)))

    return replace(graph, nodes={id_: changed(node) for id_, node in graph.nodes.items()})


def test_without_a_ledger_all_first_steps_are_expected(tmp_path):
    graph = graph_of(flow(1))
    assert [node.step.name for node in first_by_code(graph, tmp_path / "ledger.db")] == ["load", "load"]
    (tmp_path / "ledger.db").touch()
    assert [node.step.name for node in first_by_code(graph, tmp_path / "ledger.db")] == ["load", "load"]


def test_what_was_done_is_not_expected_again(workspace, expected):
    run(flow(1), workspace=workspace, target="inline", observers=())
    assert expected(graph_of(flow(1))) == ([], [])


def test_new_inputs_are_noticed_at_the_steps_that_take_them(workspace, expected):
    run(flow(1), workspace=workspace, target="inline", observers=())
    by_code, by_inputs = expected(graph_of(flow(2)))
    assert by_code == []
    assert by_inputs == ["load[x=3]"]  # load(2) was made by the other run


def test_new_code_is_expected_where_nothing_before_it_is_new(workspace, expected):
    run(flow(1), workspace=workspace, target="inline", observers=())
    graph = graph_of(flow(1))
    assert expected(with_code(graph, "train", "f" * 64))[0] == ["train"]
    both = with_code(with_code(graph, "train", "f" * 64), "clean", "e" * 64)
    assert expected(both)[0] == ["clean"]


def test_steps_that_are_never_reused_are_expected(workspace, expected):
    run(loud_flow(1), workspace=workspace, target="inline", observers=())
    assert expected(graph_of(loud_flow(1)))[0] == ["announce"]


def test_results_that_are_too_old_are_expected_again(workspace, expected):
    run(flow(1), workspace=workspace, target="inline", observers=())
    graph = graph_of(flow(1))
    nodes = {id_: replace(node, step=replace(node.step, max_age_s=60.0)) for id_, node in graph.nodes.items()}
    graph = replace(graph, nodes=nodes)
    assert expected(graph)[1] == []
    assert expected(graph, now=time.time() + 61)[1] == [id_ for id_ in nodes if id_.startswith("load")]


def test_nodes_that_stand_for_many_calls_have_no_key_to_ask_for(workspace, expected):
    run(mapped_flow(1), workspace=workspace, target="inline", observers=())
    assert expected(graph_of(mapped_flow(1))) == ([], [])


@pytest.mark.parametrize("harm", ["damaged", "locked", "of another make"])
def test_where_nothing_can_be_told_nothing_is_expected(tmp_path, harm):
    file = tmp_path / "ledger.db"
    graph = graph_of(flow(1))
    holder = None
    if harm == "damaged":
        file.write_bytes(b"no database at all" * 1000)
    else:
        holder = sqlite3.connect(file)
        holder.execute("CREATE TABLE other (x)")
        if harm == "locked":
            holder.execute("CREATE TABLE code_fingerprints (digest TEXT)")
            holder.commit()
            holder.execute("BEGIN EXCLUSIVE")
    assert first_by_code(graph, file) == []
    if holder is not None:
        holder.close()
