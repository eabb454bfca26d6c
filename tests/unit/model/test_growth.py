"""Graphs that steps return: independent of folders, stored and read back, put under the ids of a run."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes import content
from mlflow_pipes.engine.growths import mapped
from mlflow_pipes.errors import GraphError
from mlflow_pipes.model.graph import Gather, GroupNode, Growth, MapOver, Output, StepNode, Stored
from mlflow_pipes.model.growth import grafted, located, portable
from mlflow_pipes.model.step import (
    CodeFingerprint,
    CodeLeaf,
    ImportedFunction,
    PickledFunction,
    RetryPolicy,
    StepDefinition,
    StepOptions,
)
from mlflow_pipes.stores.memory import MemoryDatastore

names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/~"), min_size=1, max_size=6).filter(
    lambda name: name not in {".", ".."}
)
folders = st.lists(names, max_size=4).map(lambda parts: "/" + "/".join(parts))
hashes = st.text("0123456789abcdef", min_size=4, max_size=4)


@st.composite
def steps(draw, root=None):
    root = draw(folders) if root is None else root
    files = [f"{draw(st.sampled_from([root, root, draw(folders)])).rstrip('/')}/{draw(names)}.py" for _ in range(2)]
    sources = tuple((file, draw(hashes)) for file in files)
    function = draw(
        st.sampled_from(
            [ImportedFunction("module", "step", files[0], root, sources), PickledFunction("step", b"\x00\xff payload")]
        )
    )
    code = CodeFingerprint(
        draw(hashes),
        (CodeLeaf("function", "module.step", draw(hashes), ("a", "b")),),
        sources,
        ("w",),
        frozenset({"numpy"}),
    )
    return StepDefinition(
        draw(names), code, function, draw(st.sampled_from(["content", "never"])), draw(st.none() | st.just(2.0))
    )


options = st.builds(
    StepOptions,
    target=st.none() | names,
    cpus=st.sampled_from([1.0, 0.5]),
    max_parallel=st.none() | st.integers(1, 9),
    optional=st.booleans(),
    retries=st.builds(RetryPolicy, count=st.integers(0, 3), on=st.tuples(names)),
    tags=st.dictionaries(names, names, max_size=2),
)


@given(folders.flatmap(lambda root: st.tuples(st.just(root), steps(root))))
def test_a_step_moved_to_no_folder_and_back_is_the_same(rooted):
    root, step = rooted
    assert located(portable(step, root), root, {}) == step


@given(folders.flatmap(lambda root: st.tuples(st.just(root), steps(root))), folders)
def test_two_checkouts_store_the_same_step(rooted, above):
    root, step = rooted
    elsewhere = above.rstrip("/") + root
    there = located(portable(step, root), elsewhere, {})
    assert portable(there, elsewhere) == portable(step, root)


@given(folders.flatmap(lambda root: st.tuples(st.just(root), steps(root))))
def test_files_are_expected_as_they_are_now(rooted):
    root, step = rooted
    now = {file: "now" for file, _ in step.code.sources}
    function = located(portable(step, root), root, now).function
    if isinstance(function, ImportedFunction):
        assert {hash_ for _, hash_ in function.sources} == {"now"}


def leaf(value):
    return content.store(value, MemoryDatastore())


@st.composite
def growths(draw):
    root = draw(folders)
    known = draw(st.lists(steps(root), min_size=1, max_size=2))
    groups = {"g": GroupNode("g", "g"), "h": GroupNode("h", "h", {}, "g", 3.0, 2)} if draw(st.booleans()) else {}
    found = {}
    for number in range(draw(st.integers(0, 5))):
        values = st.builds(Stored, st.sampled_from([leaf(1), leaf("text"), leaf([1, {"a": None}])]))
        outputs = st.builds(
            Output, st.sampled_from(list(found) or [""]), st.tuples(st.integers(-2, 2) | names), st.booleans()
        )
        bindings = st.recursive(
            values | outputs if found else values,
            lambda inner: st.lists(inner, max_size=3).map(lambda items: Gather("list", tuple(items))),
            max_leaves=4,
        )
        found[f"n{number}"] = StepNode(
            f"n{number}",
            draw(st.sampled_from(known)),
            draw(st.dictionaries(names, bindings, max_size=2)),
            draw(options),
            after=tuple(draw(st.sets(st.sampled_from(list(found)), max_size=1))) if found else (),
            group=draw(st.sampled_from([None, *groups])),
            maps=draw(st.sampled_from([None, MapOver(("x", "y"), True)])),
            after_any=tuple(draw(st.sets(st.sampled_from(list(found)), max_size=1))) if found else (),
        )
    keys = tuple(found)
    return Growth(found, groups, Gather("dict", tuple(Output(key) for key in keys), keys), root)


@given(growths())
def test_a_stored_graph_comes_back_as_it_was(growth):
    datastore = MemoryDatastore()
    artifact = content.store(growth, datastore)
    read = content.load(artifact, datastore)
    assert {name: located(one.step, growth.root, {}) for name, one in read.nodes.items()} == {
        name: one.step for name, one in growth.nodes.items()
    }
    steps_apart = {name: replace(one, step=growth.nodes[name].step) for name, one in read.nodes.items()}
    assert replace(read, nodes=steps_apart, root=growth.root) == growth


@given(growths())
def test_a_graph_is_stored_the_same_each_time(growth):
    assert content.store(growth, MemoryDatastore()) == content.store(growth, MemoryDatastore())


STEP = StepDefinition("search", CodeFingerprint("0"), PickledFunction("search", b""))
OTHER = replace(STEP, name="other")


@given(growths(), st.sets(st.sampled_from(["outer/n0", "outer/n1", "outer/g", "outer/n1#2"])))
def test_grafted_nodes_have_new_ids_and_keep_their_edges(growth, taken):
    onto = StepNode("outer", STEP, {})
    graft = grafted(growth, onto, taken)
    assert not taken & (graft.nodes.keys() | graft.groups.keys())
    assert len(graft.nodes) == len(growth.nodes)
    ids = dict(zip(growth.nodes, graft.nodes, strict=True))
    for before, after in zip(growth.nodes.values(), graft.nodes.values(), strict=True):
        assert after.parents == {ids[parent] for parent in before.parents}
        assert after.group == "outer" if before.group is None else after.group in graft.groups


def graft_ids(onto, *names_):
    growth = Growth({name: StepNode(name, OTHER, {}) for name in names_}, {}, Gather("list", ()))
    return list(grafted(growth, onto, {}).nodes)


def test_ids_of_returned_calls_are_readable():
    assert graft_ids(StepNode("search", STEP, {}), "other", "search") == ["search/other", "search~2"]
    assert graft_ids(StepNode("search~2", STEP, {}), "search") == ["search~3"]
    assert graft_ids(StepNode("in/search", STEP, {}), "[x=1]") == ["in/search[x=1]"]


# --- maps ---------------------------------------------------------------------------------------------------------


def mapped_ids(product=False, **lists):
    datastore = MemoryDatastore()
    node = StepNode("train", replace(STEP, name="train"), {}, maps=MapOver(tuple(lists), product))
    growth = mapped(node, {name: content.store(value, datastore) for name, value in lists.items()}, {}, datastore)
    return list(growth.nodes)


@pytest.mark.parametrize(
    ("lists", "ids"),
    [
        ({"x": [1, 2.5, True, None]}, ["train[x=1]", "train[x=2.5]", "train[x=true]", "train[x=null]"]),
        ({"x": ["a", "b"]}, ["train[x=a]", "train[x=b]"]),
        ({"x": [1, 1, 2, 1]}, ["train[x=1]", "train[x=1]#2", "train[x=2]", "train[x=1]#3"]),
        ({"x": [[1], [2]]}, ["train[0]", "train[1]"]),
        ({"x": [1, "y" * 100]}, ["train[x=1]", "train[1]"]),
        ({"x": {"east": 1, 2: 3}}, ["train[east]", "train[2]"]),
        ({"x": (1, 2), "y": [3, 4]}, ["train[x=1, y=3]", "train[x=2, y=4]"]),
        ({"x": []}, []),
    ],
)
def test_calls_of_a_map_are_named_by_their_items(lists, ids):
    assert mapped_ids(**lists) == ids


def test_a_product_has_each_combination_once():
    assert mapped_ids(product=True, x=[1, 2], y=[3, 4]) == [f"train[x={x}, y={y}]" for x in (1, 2) for y in (3, 4)]


@pytest.mark.parametrize("value", [5, "abc", None, b"bytes"])
def test_what_has_no_items_is_refused_by_name(value):
    with pytest.raises(GraphError, match=r"step 'train' is mapped over 'x', which is .*; give it a list"):
        mapped_ids(x=value)
