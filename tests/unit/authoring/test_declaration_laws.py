"""Laws of declaration, over random arguments and random graphs."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_pipes.authoring import OutputRef, graph_of, pipeline, step
from mlflow_pipes.authoring.reference import path_of
from mlflow_pipes.model.graph import Binding, Constant, Gather, Output
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction


class Pair(NamedTuple):
    left: Any
    right: Any


@step
def source(number):
    return number


@step
def sink(value):
    return value


@step
def join(inputs, tag, rate=0.5):
    return inputs


def identify(function, options):
    return CodeFingerprint(function.__name__), PickledFunction(function.__name__, b"")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
leaves = scalars | st.just("<ref>") | st.just("<part>")
nestings = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=12,
)


def planted(value: Any, ref: Any) -> Any:
    """Return the nesting with references in the marked places."""
    if value == "<ref>":
        return ref
    if value == "<part>":
        return ref["part"][2]
    if isinstance(value, Pair):
        return Pair(planted(value.left, ref), planted(value.right, ref))
    if isinstance(value, (list, tuple)):
        return type(value)(planted(item, ref) for item in value)
    if isinstance(value, dict):
        return {key: planted(item, ref) for key, item in value.items()}
    return value


def resolved(binding: Binding) -> Any:
    """Return what a binding stands for, with the marks back in the places of references."""
    match binding:
        case Constant(value):
            return value
        case Output(_, path):
            return "<part>" if path else "<ref>"
        case Gather("dict", items, keys):
            return dict(zip(keys, map(resolved, items), strict=True))
        case Gather("record", items):
            return Pair(*map(resolved, items))
        case Gather("list", items):
            return [resolved(item) for item in items]
        case Gather("tuple", items):
            return tuple(resolved(item) for item in items)
    raise AssertionError(binding)


@given(nestings)
@settings(max_examples=60)
def test_any_nesting_of_references_and_constants_binds_and_resolves(value):
    graph = graph_of(sink(planted(value, source(1))), identify=identify)
    assert resolved(graph.nodes["sink"].arguments["value"]) == value


edges = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 2), st.booleans()), max_size=25)


def declare(rows):
    """Declare a random graph: each row is a call with up to two earlier calls as inputs, and maybe a late order."""
    refs: list[Any] = [source(0)]
    for first, second, tag, late in rows:
        inputs = [refs[first % len(refs)], refs[second % len(refs)]]
        ref = join(inputs[: 1 + tag % 2], tag)
        if late:  # an order against that of declaration, which cannot close a cycle: nothing depends on *lone* yet
            lone = source.options(name=f"lone {len(refs)}")(1)
            ref.after(lone)
        refs.append(ref)


@given(edges)
@settings(max_examples=60)
def test_parents_stand_before_children_and_names_are_unique(rows):
    def made():
        declare(rows)

    call = pipeline(made)()
    graph = graph_of(call, identify=identify)
    assert len(graph.nodes) == len(call.declaration.calls)
    seen: set[str] = set()
    for name, node in graph.nodes.items():
        assert node.id == name
        assert node.parents <= seen
        seen.add(name)


@given(edges, st.integers(0, 5))
@settings(max_examples=40)
def test_names_do_not_depend_on_unrelated_steps(rows, more):
    def made():
        declare(rows)

    def made_with_more():
        for number in range(more):
            sink(number)
        declare(rows)
        sink("last")

    few, many = (graph_of(pipeline(function)(), identify=identify) for function in (made, made_with_more))
    assert [name for name in many.nodes if not name.startswith("sink")] == list(few.nodes)
    assert {name: node.arguments for name, node in few.nodes.items()}.items() <= {
        name: node.arguments for name, node in many.nodes.items()
    }.items()


@given(st.lists(st.sampled_from(["a", "b", "a#2", "x y", "a/b"]) | st.integers(0, 3) | st.floats(), max_size=12))
def test_every_call_gets_a_name_of_its_own(values):
    def made():
        source(0)
        for value in values:
            sink(value)
        sink([1])

    graph = graph_of(pipeline(made)(), identify=identify)
    assert len(graph.nodes) == len(values) + 2
    assert not any("/" in name for name in graph.nodes)


@given(st.lists(st.text(max_size=4) | st.integers(0, 10**6), min_size=1, max_size=6))
def test_paths_of_parts_are_what_was_asked_for(items):
    ref: Any = source(1)
    for item in items:
        ref = ref[item]
    assert isinstance(ref, OutputRef)
    assert path_of(ref) == tuple(items)
