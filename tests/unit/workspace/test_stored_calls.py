"""A call kept with its run is the same call when it is declared again; what cannot be kept says why."""

import dataclasses
import datetime as dt
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes import pipeline, step
from mlflow_pipes.authoring import graph_of
from mlflow_pipes.errors import DeclarationError, NotFoundError
from mlflow_pipes.workspace.calls import LARGEST_BYTES, declared_again, stored_call


@dataclasses.dataclass(frozen=True)
class Settings:
    depth: int
    names: tuple[str, ...] = ()


@step
def train(depth: Any) -> int:
    return 1


@step(reuse="never")
def bye() -> None:
    pass


@pipeline(tags={"team": "a"})
def flow(depth: Any, seed: int = 3, **more: Any):
    return train(depth), train([seed, *more])


@pipeline
def chosen(which: Any):
    return which(1)


def again(call):
    stored = stored_call(call, {})
    assert stored.problem == ""
    return declared_again(stored)


def identity(call):
    graph = graph_of(call)
    return [
        (node.id, node.step.code.digest, dict(node.arguments), node.options) for node in graph.nodes.values()
    ], dataclasses.replace(graph, nodes={}, output=None)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain, st.integers(), st.dictionaries(st.from_regex(r"[a-z]{1,5}_", fullmatch=True), plain, max_size=2))
def test_a_call_declared_again_is_the_same_call(depth, seed, more):
    call = flow(depth, seed, **more)
    assert identity(again(call)) == identity(call)


@pytest.mark.parametrize(
    "value", [Settings(3, ("a",)), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), Path("a/b"), {1, 2}, Settings, 3j]
)
def test_values_of_any_class_are_kept(value):
    assert again(flow(value)).arguments["depth"] == value


def test_the_options_of_the_call_are_kept():
    call = flow.options(fail_fast=False, max_parallel=2, tags={"a": "b"}, timeout_s=9)(1)
    assert identity(again(call)) == identity(call)
    assert stored_call(flow(1), {}).options == {}


def test_a_step_that_is_an_argument_is_found_by_its_name():
    assert again(chosen(train)).arguments["which"] is train


def test_a_call_of_a_step_is_kept():
    assert identity(again(train([1, 2]))) == identity(train([1, 2]))


def test_what_run_was_given_goes_along():
    assert stored_call(flow(1), {"tags": {"a": "b"}}).given == {"tags": {"a": "b"}}
    assert stored_call(flow(1), {}).folder == str(Path.cwd())


def _nested():
    @pipeline
    def inner():
        return train(1)

    return inner


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: train(train(1)), "on outputs of other steps"),
        (lambda: train.options(cpus=2)(1), "with options"),
        (lambda: train.map([1, 2]), "with options, or on outputs"),
        (_nested(), "has no name at the top of"),
        (lambda: flow.options(always=bye)(1), "other exit hooks"),
        (lambda: flow(b"x" * (LARGEST_BYTES + 1)), "more than the 1,000,000 that are kept"),
        (lambda: flow(sys.stdout), "cannot be pickled"),
    ],
)
def test_what_cannot_be_kept_says_why(call, why):
    problem = stored_call(call(), {}).problem
    assert why in problem


@pytest.mark.parametrize(
    "wrapped", [lambda text: text, lambda text: [{"key": text}], lambda text: Settings(1, (text,))]
)
def test_a_secret_is_never_kept(monkeypatch, wrapped):
    monkeypatch.setenv("PIPES_SECRET_DB", "s3cr3t-pässword")
    stored = stored_call(flow(wrapped("user:s3cr3t-pässword@host")), {})
    assert "holds the value of a secret" in stored.problem
    assert "current_run().secret(name)" in stored.problem
    assert "s3cr3t" not in repr(stored)
    assert stored_call(flow(wrapped("user@host")), {}).problem == ""


def test_a_pipeline_of_a_session_without_a_file_is_not_kept():
    names = {"__name__": "__main__"}
    exec("from mlflow_pipes import pipeline, step\n@step\ndef one() -> int: return 1\n", names)
    exec("@pipeline\ndef typed():\n    return one()\n", names)
    assert "was not declared in a file" in stored_call(names["typed"](), {}).problem


def project(tmp_path, monkeypatch, text, name="flows_of_test"):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text("from mlflow_pipes import pipeline, step\n" + text)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / f"{name}.py"


def stored_in(file, name, **changes):
    from mlflow_pipes.model.resumption import StoredCall

    return StoredCall(str(file), name, arguments=pickle.dumps({}), **changes)


def test_what_is_gone_or_fails_meanwhile_is_told(tmp_path, monkeypatch):
    with pytest.raises(NotFoundError, match=r"nowhere\.py, which declared 'flow', is not there"):
        declared_again(stored_in(tmp_path / "nowhere.py", "flow"))
    text = (
        "@step\ndef one() -> int:\n    return 1\n@pipeline\ndef flows():\n    one()\n@pipeline\ndef bad():\n    1/0\n"
    )
    file = project(tmp_path, monkeypatch, text)
    with pytest.raises(NotFoundError, match=r"no longer declares 'flow'; did you mean 'flows'"):
        declared_again(stored_in(file, "flow"))
    with pytest.raises(DeclarationError, match=r"'bad' in .* failed while it was declared: ZeroDivisionError"):
        declared_again(stored_in(file, "bad"))
    unreadable = dataclasses.replace(stored_in(file, "flows"), arguments=b"cnowhere\nThing\n.")
    with pytest.raises(
        DeclarationError, match=r"arguments .* cannot be read any more: .*run\(flows\(\.\.\.\), resume="
    ):
        declared_again(unreadable)
    assert graph_of(declared_again(stored_in(file, "flows"))).name == "flows"
