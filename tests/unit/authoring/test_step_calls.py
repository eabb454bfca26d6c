"""Calls of steps: binding of arguments, and what a declaration refuses."""

# ruff: noqa: PLW0108, RUF043 - calls are made late; messages are matched as patterns

from __future__ import annotations

import dataclasses
import functools
import pickle
from pathlib import Path
from typing import NamedTuple

import cloudpickle
import numpy as np
import pytest

from mlflow_pipes.authoring import OutputRef, Step, pipeline, step
from mlflow_pipes.errors import ArgumentError, DeclarationError, GraphError
from mlflow_pipes.model.graph import Constant, Gather, Output


@step
def load(folder: Path, rows: int = 10) -> dict[str, float]:
    """Read the folder.

    All of it.
    """
    return {str(folder): float(rows)}


@step
def double(x):
    return 2 * x


@step
def collect(values):
    return values


@step
def fit(table, *, depth: int, **params):
    return (table, depth, params)


@pipeline
def simple():
    return double(1)


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass(frozen=True)
class Setup:
    model: object
    rate: float = 0.1


def test_a_step_call_gives_a_reference_and_runs_nothing():
    assert isinstance(double(21), OutputRef)
    assert double.function(21) == 42
    assert double.name == "double"


def test_a_step_keeps_its_functions_name_doc_and_module():
    assert (load.__name__, load.__module__) == ("load", __name__)
    assert load.__doc__.startswith("Read the folder.")
    assert load.__wrapped__ is load.function
    assert repr(load) == "<step load>"


def test_a_bare_step_call_is_a_graph_of_its_own(declared):
    graph = declared(double(double(2)))
    assert graph.name == "double"
    assert list(graph.nodes) == ["double", "double#2"]
    assert graph.output == Output("double#2")
    assert graph.nodes["double#2"].arguments == {"x": Output("double")}
    assert graph.file == __file__


def test_only_what_a_bare_call_needs_is_in_its_graph(declared):
    first = double(1)
    double(first)
    assert list(declared(collect([first])).nodes) == ["double", "collect"]


def test_defaults_that_were_not_given_are_left_out(declared):
    (node,) = declared(load(Path("data"))).nodes.values()
    assert node.arguments == {"folder": Constant(Path("data"))}
    assert node.step.doc == "Read the folder.\n\nAll of it."


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load(), ["step 'load'", "missing 'folder'", "folder: pathlib.Path, rows: int = 10"]),
        (lambda: load(Path(), row=3), ["step 'load'", "no parameter 'row'", "did you mean 'rows'?"]),
        (lambda: load(Path(), zzz=3), ["no parameter 'zzz'", "it takes (folder"]),
        (lambda: load(Path(), 3, 4), ["3 positional arguments", "it takes (folder"]),
        (lambda: load(Path(), folder=Path()), ["'folder' twice", "give it once"]),
        (lambda: fit(1), ["missing 'depth'"]),
        (lambda: fit(1, depth=2, params=3), ["`**params`", "give 'params' another name"]),
        (lambda: fit(1, 2, depth=3), ["2 positional arguments"]),
        (lambda: load("data"), ["wants pathlib.Path for 'folder'", "'data' (str)", "write Path('data')"]),
        (lambda: load(Path(), rows="8"), ["wants int for 'rows'", "'8' (str)", "write 8"]),
        (lambda: load(Path(), rows=8.5), ["wants int for 'rows'", "8.5 (float)"]),
        (lambda: collect(double), ["step 'collect'", "argument 'values'", "<step double> itself", "call it"]),
        (
            lambda: collect([simple()]),
            ["argument 'values'", "<pipeline call simple: 1 step, not run yet>", "run(...).output()"],
        ),
        (lambda: collect({("a", 1): double(1)}), ["argument 'values'", "('a', 1)", "use str or int as keys"]),
    ],
)
def test_wrong_arguments_are_named_with_a_remedy(call, said):
    with pytest.raises(ArgumentError) as caught:
        call()
    for text in said:
        assert text in str(caught.value)


def test_a_wrong_argument_is_a_type_error_as_in_plain_python():
    with pytest.raises(TypeError):
        load()


def test_further_keyword_arguments_are_arguments_of_their_own(declared):
    (node,) = declared(fit(1, depth=2, rate=0.5, seed=0)).nodes.values()
    assert {name: bound.value for name, bound in node.arguments.items()} == {
        "table": 1, "depth": 2, "rate": 0.5, "seed": 0,
    }  # fmt: skip


def test_references_are_found_at_any_depth_and_gathered(declared):
    x = double(1)
    call = collect([1, (x, {"a": [x["b"]]}), Pair(x, 2), Setup(model=x)])
    graph = declared(call)
    assert graph.nodes["collect"].arguments["values"] == Gather(
        "list",
        (
            Constant(1),
            Gather("tuple", (Output("double"), Gather("dict", (Gather("list", (Output("double", ("b",)),)),), ("a",)))),
            Gather("record", (Output("double"), Constant(2)), ("left", "right"), f"{__name__}:Pair"),
            Gather("record", (Output("double"), Constant(0.1)), ("model", "rate"), f"{__name__}:Setup"),
        ),
    )


def test_containers_without_references_stay_constants(declared):
    value = [1, (2, {"a": {3}}), Pair(4, 5)]
    (node,) = declared(collect(value)).nodes.values()
    assert node.arguments["values"] == Constant(value)


def test_changing_a_list_after_the_call_changes_no_graph(declared):
    value = [1, [2], {"a": [3]}]
    call = collect(value)
    value[1].append(0)
    value[2]["a"].append(0)
    value.append(0)
    (node,) = declared(call).nodes.values()
    assert node.arguments["values"] == Constant([1, [2], {"a": [3]}])


def test_a_list_that_contains_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(ArgumentError, match="'values': it contains itself"):
        collect(endless)


def test_numpy_numbers_are_numbers(declared):
    (node,) = declared(load(Path(), rows=np.int64(3))).nodes.values()
    assert node.arguments["rows"] == Constant(np.int64(3))


def test_annotations_of_type_checking_imports_are_not_checked():
    @step
    def use(table: pd.DataFrame, depth: int) -> pl.DataFrame:  # noqa: F821
        return table

    use(double(1), 3)
    with pytest.raises(ArgumentError, match="wants int for 'depth'"):
        use(double(1), "3")


def test_a_default_of_none_makes_a_parameter_optional():
    @step
    def use(depth: int = None):  # noqa: RUF013
        return depth

    use(None)
    use(3)


def plain(x):
    return x


def listed(x, seen=[]):  # noqa: B006
    return seen


def mapped(x, seen={}):  # noqa: B006
    return seen


def starred(*tables):
    return tables


def placed(x, /):
    return x


def generated(x):
    yield x


async def awaited(x):
    return x


def fed(x=double(1)):  # noqa: B008
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x, ["lambda", "test_step_calls.py", "write `def`"]),
        (listed, ["step 'listed'", "default of 'seen'", "mutable list", "write `()`"]),
        (mapped, ["default of 'seen'", "mutable dict", "write `None`"]),
        (starred, ["step 'starred'", "`*tables`", "`tables: list`"]),
        (placed, ["'x' is positional-only", "remove the `/`"]),
        (generated, ["'generated'", "generator", "build a list"]),
        (awaited, ["'awaited'", "async", "asyncio.run"]),
        (fed, ["default of 'x'", "'double'", "in a pipeline function"]),
        (int, ["takes a function", "write `def`"]),
        (5, ["takes a function, not 5"]),
        (double, ["<step double>", "only once"]),
    ],
)
@pytest.mark.parametrize("decorate", [step, pipeline])
def test_functions_that_cannot_be_declared_are_named_with_a_remedy(decorate, function, said):
    with pytest.raises(DeclarationError) as caught:
        decorate(function)
    for text in said:
        assert text.replace("step '", f"{decorate.__name__} '") in str(caught.value)


def test_a_partial_is_a_step_named_as_the_function_inside(declared):
    halved = step(functools.partial(load.function, rows=5))
    assert halved.name == "load"
    (node,) = declared(halved(Path())).nodes.values()
    assert node.id == "load"


def test_a_step_after_other_calls_waits_for_them_without_data(declared):
    first, second = double(1), double(2)
    graph = declared(collect.after(first, [second])(3))
    assert graph.nodes["collect"].after == ("double[x=1]", "double[x=2]")
    assert graph.nodes["collect"].arguments == {"values": Constant(3)}
    assert collect(1) is not None
    assert "collect" in declared(collect(1)).nodes


def test_a_result_can_be_ordered_after_others(declared):
    first = double(1)
    last = collect(2)
    assert last.after(first) is last
    assert declared(last).nodes["collect"].after == ("double",)


def test_after_takes_calls_only():
    with pytest.raises(
        GraphError, match=r"step 'collect', after\(...\) takes what step calls returned, not <step double>"
    ):
        collect.after(double)


def test_a_step_of_a_module_is_pickled_by_reference():
    assert pickle.loads(pickle.dumps(double)) is double


def test_a_nested_step_is_pickled_by_value():
    nested = step(cpus=3)(lambda_free())
    copy = cloudpickle.loads(cloudpickle.dumps(nested))
    assert isinstance(copy, Step)
    assert copy.function(3) == 3
    assert copy.declared.options.cpus == 3


def lambda_free():
    def identity(x):
        return x

    return identity


def test_a_reference_from_a_running_step_cannot_be_stored_yet():
    with pytest.raises(DeclarationError, match="'double' is a reference .* not supported yet"):
        pickle.dumps(double(1))
    with pytest.raises(DeclarationError, match="not supported yet"):
        cloudpickle.dumps([double(1)])


def test_hints_are_those_of_the_function_inside_a_decorator():
    def logged(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        return call

    decorated = step(logged(load.function))
    with pytest.raises(ArgumentError, match="wants int for 'rows'"):
        decorated(Path(), rows="8")
    assert decorated(Path()).after(double(1)) is not None


def test_a_chain_longer_than_the_recursion_limit_is_declared_and_freed(declared):
    ref = double(0)
    for _ in range(5000):
        ref = double(ref)
    assert len(declared(ref).nodes) == 5001
    del ref
