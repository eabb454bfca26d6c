"""What a step's result depends on. Keys stand in step caches for years: when one changes, everything runs again."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes import step
from mlflow_pipes.authoring import graph_of
from mlflow_pipes.engine.assignments import idempotency_key
from mlflow_pipes.model.step import KEYED, NEUTRAL, StepDefinition
from mlflow_pipes.scheduling.keys import action_key


def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


def definition(call) -> StepDefinition:
    (node,) = graph_of(call).nodes.values()
    return node.step


def test_every_field_of_a_step_is_either_keyed_or_neutral():
    assert not KEYED & NEUTRAL
    assert {field.name for field in dataclasses.fields(StepDefinition)} == KEYED | NEUTRAL


@pytest.mark.parametrize(
    "options", [{"target": "inline"}, {"retries": 3}, {"name": "twice"}, {"reuse": "never"}, {"max_age_s": 60}]
)
def test_where_and_how_a_step_runs_is_not_in_its_key(options):
    plain, other = definition(step(double)(1)), definition(step(**options)(double)(1))
    differing = {name for name in NEUTRAL | KEYED if getattr(plain, name) != getattr(other, name)}
    assert differing
    assert differing <= NEUTRAL


def test_keys_are_those_that_caches_hold():
    assert action_key("c0de", {}) == "4bb52c3f3d118c60e02c5a165c3308b6e532bb7c75508f70ec0e12807e5a3af3"
    assert (
        action_key("c0de", {"x": "1d", "Größe": "2d"})
        == "053f5f08ad8543c74b2e69dd8bf0b3f6f3096e4bf9f5257381b206a24775d691"
    )
    assert idempotency_key("run", "train[max_depth=8]", "key") == "16d2546e34969a8df9785a17de7f2c35"


TEXTS = st.text("ab", max_size=2)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3), TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_two_keys_are_equal_only_for_the_same_code_and_inputs(code, inputs, other_code, other_inputs):
    same = (code, inputs) == (other_code, other_inputs)
    assert (action_key(code, inputs) == action_key(other_code, other_inputs)) == same


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4))
def test_the_order_of_inputs_does_not_matter(inputs):
    assert action_key("c", inputs) == action_key("c", dict(reversed(inputs.items())))
