"""A declared pipeline: nodes, the bindings of their arguments, and the groups they stand in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from mlflow_pipes.model.artifact import Artifact, CollectionKind
from mlflow_pipes.model.step import StepDefinition, StepOptions
from mlflow_pipes.quick_dataclasses import dataclass

PathItem: TypeAlias = str | int
HookTime: TypeAlias = Literal["on_success", "on_failure", "always"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known at declaration. It becomes an artifact when the run is prepared."""

    value: Any


@dataclass(frozen=True, slots=True)
class Stored:
    """A value that stands in the datastore already: what a running step gave to the calls it returned."""

    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run went, as its exit hooks are told: a :class:`~mlflow_pipes.model.run.RunOutcome`."""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of another node, or the part of it that *path* names (fields, keys and positions).

    Attributes:
        or_failure: when the node fails or is skipped, its ``StepFailure`` stands for the output.
    """

    node: str
    path: tuple[PathItem, ...] = ()
    or_failure: bool = False


@dataclass(frozen=True, slots=True)
class Gather:
    """A list, tuple, dict or record that contains outputs of other nodes."""

    kind: CollectionKind
    items: tuple[Binding, ...]
    keys: tuple[PathItem, ...] = ()
    type_name: str = ""


Binding: TypeAlias = Constant | Stored | Outcome | Output | Gather


def outputs_in(binding: Binding) -> Iterator[Output]:
    """Yield every output that a binding reads, depth first."""
    if isinstance(binding, Output):
        yield binding
    elif isinstance(binding, Gather):
        for item in binding.items:
            yield from outputs_in(item)


@dataclass(frozen=True, slots=True)
class MapOver:
    """That a node stands for a call per item of a list that is known when its inputs are there.

    Attributes:
        parameters: those whose arguments are taken apart; all others are shared by every call.
        product: a call per combination of items; else the n-th items go together, and lengths must be equal.
    """

    parameters: tuple[str, ...]
    product: bool = False


@dataclass(frozen=True, slots=True)
class StepNode:
    """One call of a step in a graph.

    Attributes:
        id: unique in the graph, readable and stable: ``train[max_depth=8]``, inside a sub-pipeline ``outer/train``.
        step: what to do; calls of one step share the definition.
        arguments: binding of each argument by parameter name, defaults not given are left out.
        options: the step's options with this call's changes.
        after: ids of nodes that must end well before, without data; not in the key.
        group: id of the sub-pipeline it stands in, or of the step that returned it; None at the top.
        maps: it stands for a call per item of some of its arguments.
        after_any: like *after*, however they end.
        hook: when it runs at the end of the run, instead of as one of its steps.
        data_parents: ids of the nodes whose outputs it reads.
        parents: ids of the nodes that must end before it starts.
        tolerated_parents: ids of the parents that may also end badly: it can do with their failure.
    """

    id: str
    step: StepDefinition
    arguments: Mapping[str, Binding]
    options: StepOptions = StepOptions()
    after: tuple[str, ...] = ()
    group: str | None = None
    maps: MapOver | None = None
    after_any: tuple[str, ...] = ()
    hook: HookTime | None = None
    data_parents: frozenset[str] = field(init=False, compare=False, repr=False)
    parents: frozenset[str] = field(init=False, compare=False, repr=False)
    tolerated_parents: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        outputs = [output for binding in self.arguments.values() for output in outputs_in(binding)]
        data = parents = frozenset([output.node for output in outputs])
        tolerated: frozenset[str] = frozenset()
        if self.after or self.after_any:
            parents = data.union(self.after, self.after_any)
        if self.after_any or any(output.or_failure for output in outputs):
            needed = [output.node for output in outputs if not output.or_failure]
            tolerated = parents.difference(needed, self.after)
        put = object.__setattr__
        put(self, "data_parents", data)
        put(self, "parents", parents)
        put(self, "tolerated_parents", tolerated)


@dataclass(frozen=True, slots=True)
class GroupNode:
    """A pipeline called inside a pipeline: a child run that holds further child runs.

    Attributes:
        timeout_s: longest time from its first step's start, in seconds.
        max_parallel: how many of its steps run at once at most.
    """

    id: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    timeout_s: float | None = None
    max_parallel: int | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """The calls that a step returned: a graph that takes the step's place. Ids are relative to the step's.

    Attributes:
        nodes, groups: as of a :class:`Graph`; at the top their group is None.
        output: binding of what the step returned; becomes the step's output.
        root: folder that the source files of its steps are found from (see ``growth.portable``); empty when their
            paths are whole.
    """

    nodes: Mapping[str, StepNode]
    groups: Mapping[str, GroupNode]
    output: Binding
    root: str = ""


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
        timeout_s: longest time of the whole run, in seconds; its hooks come after that.
        max_parallel: how many of its steps run at once at most, whatever the targets hold.
        priority: larger goes first where runs share targets or tokens.
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
    max_parallel: int | None = None
    priority: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    doc: str = ""
