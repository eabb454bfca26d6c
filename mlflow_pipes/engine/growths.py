"""Calls of further steps that a step returned, or that a map over a list stands for: as nodes of the run."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlflow_pipes import content
from mlflow_pipes.errors import GraphError
from mlflow_pipes.model.artifact import Artifact, Leaf
from mlflow_pipes.model.graph import Gather, Growth, MapOver, Output, PathItem, StepNode, Stored
from mlflow_pipes.model.growth import grafted, located, located_function
from mlflow_pipes.model.step import ImportedFunction, StepDefinition, StepOptions
from mlflow_pipes.ports import Datastore
from mlflow_pipes.wording import label_text

LONGEST_LABEL = 40


def is_growth(output: Artifact) -> bool:
    """Tell whether an output is calls of further steps."""
    return isinstance(output, Leaf) and output.codec == "graph"


def returned(node: StepNode, output: Artifact, taken: Container[str], datastore: Datastore) -> Growth:
    """Return the calls that *node* returned, under their ids in the run.

    Raises:
        BlobError: they cannot be read.
    """
    growth: Growth = content.load(output, datastore)
    function = node.step.function
    if isinstance(function, ImportedFunction) and function.root:
        known = dict(function.sources)
        steps: dict[int, StepDefinition] = {}
        nodes = {}
        for one in growth.nodes.values():
            if id(one.step) not in steps:
                steps[id(one.step)] = located(one.step, function.root, known)
            nodes[one.id] = replace(one, step=steps[id(one.step)], options=_located(one.options, function.root, known))
        growth = replace(growth, nodes=nodes)
    return grafted(growth, node, taken)


def _located(options: StepOptions, root: str, known: Mapping[str, str]) -> StepOptions:
    when = options.retries.when
    if not isinstance(when, ImportedFunction):
        return options
    return replace(options, retries=replace(options.retries, when=located_function(when, root, known)))


def mapped(node: StepNode, arguments: Mapping[str, Artifact], taken: Container[str], datastore: Datastore) -> Growth:
    """Return a call of the node's step for each item of what it maps over.

    Raises:
        GraphError: an argument has no items, or their numbers differ.
        BlobError: an argument's blob cannot be used.
    """
    assert node.maps is not None
    lists = {name: _items(node, name, arguments[name], datastore) for name in node.maps.parameters}
    keys = _keys(lists, node.maps)
    items = [values for _, values in lists.values()]
    if not node.maps.product and len(set(map(len, items))) > 1:
        told = ", ".join(f"{name} has {len(values):,}" for name, (_, values) in lists.items())
        raise GraphError(
            f"step {node.step.name!r} is mapped over lists of different lengths ({told}); make them equal, or write "
            f"{node.step.name}.map_product(...) for all combinations"
        )
    shared = {name: Stored(artifact) for name, artifact in arguments.items() if name not in lists}
    options = replace(node.options, max_parallel=None)
    rows = list(itertools.product(*items) if node.maps.product else zip(*items, strict=True))
    labels = _labels(list(lists), rows, keys)
    nodes = {}
    for label, row in zip(labels, rows, strict=True):
        own = {name: Stored(item) for name, item in zip(lists, row, strict=True)}
        nodes[label] = StepNode(label, node.step, {**shared, **own}, options)
    outputs = tuple([Output(label) for label in labels])
    output = Gather("list", outputs) if keys is None else Gather("dict", outputs, tuple(keys))
    return grafted(Growth(nodes, {}, output), node, taken)


def _items(
    node: StepNode, name: str, artifact: Artifact, datastore: Datastore
) -> tuple[Sequence[PathItem] | None, Sequence[Artifact]]:
    found = content.items_of(artifact, datastore)
    if found is None:
        raise GraphError(
            f"step {node.step.name!r} is mapped over {name!r}, which is {content.describe(artifact)}; give it a list, "
            f"a tuple or a dict, or leave out each(...) to give all of it to every call"
        )
    return found


def _keys(lists: Mapping[str, tuple[Sequence[PathItem] | None, Any]], maps: MapOver) -> Sequence[PathItem] | None:
    """Return the keys of the output, where one dict is mapped over; else it is a list."""
    if len(lists) != 1 or maps.product:
        return None
    return next(iter(lists.values()))[0]


def _labels(names: list[str], rows: Sequence[Sequence[Artifact]], keys: Sequence[PathItem] | None) -> list[str]:
    """Return an id for each call: with the items that it is of, where these are short plain values, else counted."""
    labels: list[str] = []
    seen: dict[str, int] = {}
    for position, row in enumerate(rows):
        texts = [_text(item) for item in row]
        if keys is not None:
            inside = label_text(str(keys[position]), LONGEST_LABEL) or str(position)
        elif None not in texts:
            inside = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        else:
            inside = str(position)
        seen[inside] = seen.get(inside, 0) + 1
        labels.append(f"[{inside}]" if seen[inside] == 1 else f"[{inside}]#{seen[inside]}")
    return labels


def _text(item: Artifact) -> str | None:
    """Return a short plain value as text; None for anything else."""
    if not isinstance(item, Leaf) or item.inline is None or len(item.inline) > LONGEST_LABEL:
        return None
    if item.codec == "text":
        return label_text(item.inline.decode("utf-8", "replace"), LONGEST_LABEL)
    if item.codec == "json" and item.inline[:1] not in (b"[", b"{", b'"'):
        return item.inline.decode("ascii")
    return None
