"""Options of steps: read, checked, changed at the call."""

from __future__ import annotations

import json

import pytest

from mlflow_pipes.authoring import graph_of, step
from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction, RetryPolicy, StepOptions


def work(x: int = 0) -> int:
    return x


@step(cpus=2, memory="2GB", timeout_s=10, retries=2, retry_on=(TimeoutError, json.JSONDecodeError), tags={"a": "b"})
def heavy(x: int = 0) -> int:
    return x


def test_a_step_without_options_has_the_models_defaults(declared):
    (node,) = declared(step(work)(1)).nodes.values()
    assert node.options == node.step.options == StepOptions()
    assert (node.step.reuse, node.step.max_age_s) == ("content", None)


def test_options_are_read(declared):
    (node,) = declared(heavy()).nodes.values()
    assert node.options == StepOptions(
        cpus=2,
        memory_bytes=2 * 10**9,
        timeout_s=10,
        retries=RetryPolicy(count=2, on=("TimeoutError", "json.decoder.JSONDecodeError")),
        tags={"a": "b"},
    )


def test_a_call_changes_options_for_itself_only(declared):
    graph = declared(heavy(heavy.options(target="dask", retries=5, tags={"c": "d"}, priority=3)(1)))
    first, second = graph.nodes.values()
    assert first.step is second.step
    assert first.options.target == "dask"
    assert first.options.retries == RetryPolicy(count=5, on=("TimeoutError", "json.decoder.JSONDecodeError"))
    assert first.options.tags == {"a": "b", "c": "d"}
    assert first.options.priority == 3
    assert first.options.cpus == 2
    assert second.options == second.step.options == heavy.declared.options


@pytest.mark.parametrize(
    ("given", "amounts"),
    [("database", {"database": 1}), ({"database": 2, "licence": 0.5}, {"database": 2, "licence": 0.5})],
)
def test_tokens_are_a_name_or_amounts_by_name(given, amounts):
    assert step(tokens=given)(work).settings.options.tokens == amounts
    assert step(work).options(tokens=given).settings.options.tokens == amounts
    assert step(tokens="other")(work).options(tokens={}).settings.options.tokens == {}


def test_gpus_and_tokens_are_in_no_key(declared):
    (plain,) = declared(step(work)(1)).nodes.values()
    (asks,) = declared(step(gpus=2, tokens="database")(work)(1)).nodes.values()
    assert asks.step.code == plain.step.code
    assert (asks.options.gpus, asks.options.tokens) == (2, {"database": 1})


def test_reuse_can_be_changed_at_a_call(declared):
    graph = declared(heavy(heavy.options(reuse="never")(1)))
    assert [node.step.reuse for node in graph.nodes.values()] == ["never", "content"]


def test_a_retry_policy_is_taken_as_it_is():
    policy = RetryPolicy(count=3, delay_s=0.5, on=("OSError",))
    assert step(retries=policy)(work).settings.options.retries == policy


@pytest.mark.parametrize(
    ("memory", "size_bytes"),
    [
        ("2GB", 2 * 10**9),
        ("512 MiB", 512 * 2**20),
        ("1.5g", 15 * 10**8),
        ("1Ki", 1024),
        (77, 77),
        ("10", 10),
        ("3 tib", 3 * 2**40),
    ],
)
def test_memory_is_read_with_its_unit(memory, size_bytes):
    assert step(memory=memory)(work).settings.options.memory_bytes == size_bytes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory": "2 elephants"}, "memory='2 elephants' is not a size; write \"2GB\""),
        ({"memory": -1}, "memory=-1 is not a size"),
        ({"memory": True}, "memory=True is not a size"),
        ({"cpus": 0}, "cpus=0 is not a number above 0"),
        ({"cpus": "2"}, "cpus='2' is not a number above 0"),
        ({"timeout_s": -5}, "timeout_s=-5 is not a number above 0"),
        ({"retries": -1}, "retries=-1 is not a number from 0"),
        ({"retries": True}, "retries=True is not a number from 0"),
        ({"retries": 2, "retry_on": "TimeoutError"}, "not an exception class"),
        ({"retries": 2, "retry_on": int}, "not an exception class"),
        ({"retries": 2, "retry_on": 5}, "retry_on=5 is not one or more exception classes"),
        ({"retry_on": TimeoutError}, "there are no retries; add retries=2"),
        ({"reuse": "always"}, 'reuse=\'always\' is not known; write "content" or "never"'),
        ({"reuse": "never", "max_age_s": 5}, "remove one of them"),
        ({"max_age_s": 0}, "max_age_s=0 is not a number above 0"),
        ({"target": ""}, "target='' is not the name of a compute target"),
        ({"priority": 1.5}, "priority=1.5 is not a whole number"),
        ({"gpus": -1}, "gpus=-1 is not a whole number from 0"),
        ({"gpus": 0.5}, "gpus=0.5 is not a whole number from 0"),
        ({"tokens": 4}, 'tokens=4 is not the name of a token, nor a dict; write tokens={"database": 1}'),
        ({"tokens": ""}, "is not the name of a token"),
        ({"tokens": {"database": 0}}, "0 of 'database' is not a number above 0"),
        ({"tokens": {"database": "1"}}, "'1' of 'database' is not a number above 0"),
        ({"tokens": {"database": None}}, "None of 'database' is not a number above 0"),
        ({"tags": {"a": 1}}, "is not a dict of texts"),
        ({"retrys": 3}, "no option 'retrys'; did you mean 'retries'?"),
        ({"zzz": 3}, "no option 'zzz'; there are cpus"),
    ],
)
def test_impossible_options_are_named_with_a_remedy(options, said):
    with pytest.raises(DeclarationError, match="step 'work'") as caught:
        step(**options)(work)
    assert said in str(caught.value)
    with pytest.raises(DeclarationError, match="step 'work'"):
        step(work).options(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"version": 2}, 'write version="2"'), ({"replace_code": True}, 'add version="1"')],
)
def test_impossible_versions_are_named_with_a_remedy(options, said):
    with pytest.raises(DeclarationError) as caught:
        step(**options)(work)
    assert said in str(caught.value)


def test_code_is_identified_once_for_a_step_with_what_was_said_about_it():
    asked = []

    def identify(function, settings):
        asked.append((function, settings.version, settings.uses))
        return CodeFingerprint("x"), PickledFunction("x", b"")

    known = step(version="2", uses=[json, work])(work)
    call = known(known.options(cpus=3)(known(1)))
    graph_of(call, identify=identify)
    assert asked == [(work, "2", (json, work))]
    graph_of(call, identify=identify)
    assert len(asked) == 2
