"""A declared pipeline: nodes, the bindings of their arguments, and the groups they stand in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mlflow_pipes.model.artifact import CollectionKind
from mlflow_pipes.model.step import StepDefinition, StepOptions

PathItem: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known at declaration. It becomes an artifact when the run is prepared."""

    value: Any


@dataclass(frozen=True, slots=True)
class Output:
    """The output of another node, or the part of it that *path* names (fields, keys and positions)."""

    node: str
    path: tuple[PathItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Gather:
    """A list, tuple, dict or record that contains outputs of other nodes."""

    kind: CollectionKind
    items: tuple[Binding, ...]
    keys: tuple[PathItem, ...] = ()
    type_name: str = ""


Binding: TypeAlias = Constant | Output | Gather


def outputs_in(binding: Binding) -> Iterator[Output]:
    """Yield every output that a binding reads, depth first."""
    if isinstance(binding, Output):
        yield binding
    elif isinstance(binding, Gather):
        for item in binding.items:
            yield from outputs_in(item)


@dataclass(frozen=True, slots=True)
class StepNode:
    """One call of a step in a graph.

    Attributes:
        id: unique in the graph, readable and stable: ``train[max_depth=8]``, inside a sub-pipeline ``outer/train``.
        step: what to do; calls of one step share the definition.
        arguments: binding of each argument by parameter name, defaults not given are left out.
        options: the step's options with this call's changes.
        after: ids of nodes that must end well before, without data; not in the key.
        group: id of the sub-pipeline it stands in, None at the top.
    """

    id: str
    step: StepDefinition
    arguments: Mapping[str, Binding]
    options: StepOptions = StepOptions()
    after: tuple[str, ...] = ()
    group: str | None = None

    def data_parents(self) -> set[str]:
        """Return the ids of the nodes whose outputs this one reads."""
        return {output.node for binding in self.arguments.values() for output in outputs_in(binding)}

    def parents(self) -> set[str]:
        """Return the ids of the nodes that must end before this one starts."""
        return self.data_parents().union(self.after)


@dataclass(frozen=True, slots=True)
class GroupNode:
    """A pipeline called inside a pipeline: a child run that holds further child runs."""

    id: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A declared pipeline, checked: acyclic, every referenced node present.

    Attributes:
        name: the pipeline's name, or the step's for a bare step call.
        nodes: by id, in an order where parents stand before children.
        groups: sub-pipelines by id.
        output: binding of what the pipeline function returned, None for nothing.
        parameters: the pipeline call's arguments (plain Python values), for the record.
        fail_fast: whether the first failure cancels what runs; else everything not downstream of it goes on.
        experiment: MLflow experiment; by default the pipeline's name.
        timeout_s: longest time of the whole run, in seconds.
        file: source file that declares it, for the record; not in any key.
    """

    name: str
    nodes: Mapping[str, StepNode]
    groups: Mapping[str, GroupNode] = field(default_factory=dict)
    output: Binding | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fail_fast: bool = True
    experiment: str | None = None
    timeout_s: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    doc: str = ""
