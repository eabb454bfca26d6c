"""What is wrong with a map, an accepted failure, a hook or a limit is said when it is declared."""

import re
from typing import NamedTuple

import pytest

from mlflow_pipes import RunOutcome, allow_failure, each, pipeline, run, step
from mlflow_pipes.errors import ArgumentError, DeclarationError, GraphError
from mlflow_pipes.model.graph import Gather, MapOver, Output


class Parts(NamedTuple):
    low: list[int]
    high: list[int]


class Table:
    pass


@step
def table() -> Table:
    return Table()


@step
def parts() -> Parts:
    return Parts([], [])


@step
def numbers() -> list[int]:
    return []


@step
def names() -> dict[str, str]:
    return {}


@step
def unknown():
    return []


@step
def train(x: int, depth: int = 3) -> float:
    return x / depth


@step
def mean(values: list[float]) -> float:
    return sum(values)


@step
def tell(outcome: RunOutcome) -> None: ...


@step
def needs_two(outcome: RunOutcome, channel: str) -> None: ...


def refused(make, error, *words):
    @pipeline
    def flow():
        return make()

    with pytest.raises(error) as caught:
        flow()
    text = str(caught.value)
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (train.map, ["mapped over nothing", "each(...)"]),
        (lambda: train.map(depth=3), ["mapped over nothing"]),
        (lambda: train.map(5), ["mapped over 'x', which is 5", "share is given by name"]),
        (lambda: train.map("abc"), ["mapped over 'x', which is 'abc'"]),
        (lambda: train.map(table()), ["an output declared as", "has no items"]),
        (lambda: train.map(parts()), ["an output declared as", "has no items"]),
        (lambda: train.map(["a"]), ["wants int for 'x'"]),
        (lambda: train.map(names()), ["wants int for 'x'"]),
        (lambda: train.map([1], depht=3), ["depht", "depth"]),
        (lambda: train.map([1], [2], [3]), ["3 positional arguments"]),
        (lambda: train.map([1], x=[2]), ["'x'"]),
        (lambda: mean(names.map()), ["mapped over nothing"]),
    ],
)
def test_a_map_that_cannot_be_is_refused_with_the_remedy(make, words):
    refused(make, ArgumentError, *words)


def test_a_map_is_typed_as_a_list_or_a_dict_of_what_the_step_returns(declared):
    @pipeline
    def flow():
        as_list, as_dict = train.map(numbers()), train.map({"a": 1})
        assert repr(as_list) == "<output 'train': list[float], not there yet>"
        assert repr(as_dict) == "<output 'train': dict[str, float], not there yet>"
        return mean(as_list), as_list[2], as_dict["a"], mean(train.map(unknown()))

    graph = declared(flow())
    assert graph.nodes["train"].maps == MapOver(("x",))
    assert graph.nodes["train"].arguments["x"] == Output("numbers")
    refused(lambda: mean(train.map({"a": 1})), ArgumentError, "wants list[float]")


def test_arguments_by_name_are_shared_unless_each_says_otherwise(declared):
    @pipeline
    def flow():
        return train.map([1, 2], depth=4), train.map_product(numbers(), depth=each([4, 5]))

    graph = declared(flow())
    first, second = (node for node in graph.nodes.values() if node.maps)
    assert first.maps == MapOver(("x",))
    assert second.maps == MapOver(("x", "depth"), product=True)


def test_accepted_failures_are_edges_of_another_kind(declared):
    @pipeline
    def flow():
        a, b = train(1), train(2)
        return mean(allow_failure([a, b])), mean([a])

    graph = declared(flow())
    accepting, strict = (node for node in graph.nodes.values() if node.step.name == "mean")
    binding = accepting.arguments["values"]
    assert isinstance(binding, Gather)
    assert all(item.or_failure for item in binding.items)
    assert accepting.tolerated_parents == {"train[x=1]", "train[x=2]"}
    assert strict.tolerated_parents == set()


@pytest.mark.parametrize("value", [5, "text", [1], {"a": None}])
def test_only_outputs_can_be_accepted_as_failures(value):
    with pytest.raises(GraphError, match=r"allow_failure\(...\) takes what step calls returned"):
        allow_failure(value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_failure": print}, "on_failure=.* is neither a step nor a list of steps"),
        ({"always": [tell, 5]}, "always=.* is neither a step nor a list of steps"),
        ({"on_success": needs_two}, "step 'needs_two' needs channel, outcome.*one argument at most"),
        ({"max_parallel": 0}, "max_parallel=0"),
        ({"max_parallel": 1.5}, "max_parallel=1.5"),
    ],
)
def test_hooks_and_limits_that_cannot_be_are_refused(options, words):
    with pytest.raises(DeclarationError, match=words):
        pipeline(**options)(lambda_free)


def lambda_free():
    return train(1)


@pytest.mark.parametrize(
    "options",
    [{"max_parallel": 0}, {"max_depth": 0}, {"total_timeout_s": -1}, {"optional": "yes"}, {"max_depth": "deep"}],
)
def test_options_that_cannot_be_are_refused(options):
    (name, value), *_ = options.items()
    with pytest.raises(DeclarationError, match=re.escape(f"{name}={value!r}")):
        step(**options)(train.function)
    with pytest.raises(DeclarationError, match=re.escape(f"{name}={value!r}")):
        train.options(**options)


def test_hooks_stand_in_the_graph_apart_from_its_steps(declared):
    @pipeline(on_failure=tell, always=[tell.options(name="last")])
    def flow():
        return train(1)

    graph = declared(flow())
    assert {name: node.hook for name, node in graph.nodes.items()} == {
        "train": None,
        "tell": "on_failure",
        "last": "always",
    }
    assert graph.nodes["tell"].step.reuse == "never"


def test_hooks_are_of_the_outermost_pipeline():
    @pipeline(always=tell)
    def inner():
        return train(1)

    refused(inner, GraphError, "exit hook 'tell'", "outermost pipeline")


def test_a_run_inside_a_step_is_refused_before_anything_of_it_runs(tmp_path):
    done = run(runs_inside(), workspace=tmp_path, target="inline", observers=(), raise_on_failure=False)
    assert done.status == "failed"
    assert "'numbers' was called in step 'runs_inside', so it cannot run alone" in done.failure_text()


@step
def runs_inside() -> int:
    return len(run(numbers()).output())
