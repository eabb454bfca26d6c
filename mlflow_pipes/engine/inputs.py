"""The artifacts of each node's arguments: constants stored once, outputs selected and gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, assert_never

from mlflow_pipes import content
from mlflow_pipes.content import FileMemo
from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import ArgumentError, GraphError, PipesError, WorldError
from mlflow_pipes.model.artifact import Artifact, Collection
from mlflow_pipes.model.graph import Binding, Constant, Gather, Graph, Outcome, Output, StepNode, Stored, outputs_in
from mlflow_pipes.model.outcome import RunOutcome, StepFailure
from mlflow_pipes.ports import Datastore

SCALARS = (str, int, float, bool, type(None))


def constants_in(binding: Binding) -> Iterable[Constant]:
    """Yield every constant of a binding, depth first."""
    if isinstance(binding, Constant):
        yield binding
    elif isinstance(binding, Gather):
        for item in binding.items:
            yield from constants_in(item)


class Inputs:
    """Forms arguments from constants and from the outputs known so far.

    Attributes:
        datastore: where they are.
        outputs: artifact of each node that has ended well.
        grown: what the output of each step that returned calls is made of.
        maps: the steps among them that are mapped over lists.
        failure_of: gives the failure of a node that ended badly.
        outcome: gives how the run went, once its steps have ended.
    """

    failure_of: Callable[[str], StepFailure]
    outcome: Callable[[], RunOutcome]

    def __init__(self, datastore: Datastore, memo: FileMemo | None = None) -> None:
        self.outputs: dict[str, Artifact] = {}
        self.grown: dict[str, Binding] = {}
        self.maps: dict[str, StepNode] = {}
        self.datastore = datastore
        self._memo = memo
        self._scalars: dict[tuple[type, str], Artifact] = {}
        self._constants: dict[int, Artifact] = {}

    def prepare(self, graph: Graph) -> None:
        """Store every constant of the graph.

        Raises:
            ArgumentError: a constant cannot be stored; names step and parameter.
        """
        for node in graph.nodes.values():
            for parameter, binding in node.arguments.items():
                for constant in constants_in(binding):
                    self._prepare_constant(constant, node.id, parameter)
        if graph.output is not None:
            for constant in constants_in(graph.output):
                self._prepare_constant(constant, graph.name, "return")

    def _prepare_constant(self, constant: Constant, node: str, parameter: str) -> None:
        if type(constant.value) not in SCALARS:
            self._constants[id(constant)] = self._store(constant.value, node, parameter)

    def _store(self, value: Any, node: str, parameter: str) -> Artifact:
        where = f"step {node!r}, argument {parameter!r}"
        try:
            return content.store(value, self.datastore, name=where, memo=self._memo)
        except WorldError:
            raise
        except PipesError as error:  # most name the place themselves, down to the item
            told = str(error)
            raise ArgumentError(told if told.startswith(where) else f"{where}: {told}") from error

    def _constant(self, constant: Constant) -> Artifact:
        value = constant.value
        if type(value) not in SCALARS:
            return self._constants[id(constant)]
        key = (type(value), value if type(value) is str else repr(value))
        known = self._scalars.get(key)
        if known is None:
            known = self._scalars[key] = content.store(value, self.datastore)
        return known

    def restore_constants(self, node: StepNode) -> None:
        """Store a node's constants again, because their blobs were lost."""
        for parameter, binding in node.arguments.items():
            for constant in constants_in(binding):
                if type(constant.value) not in SCALARS:
                    self._constants[id(constant)] = content.store(constant.value, self.datastore, name=parameter)

    def artifact(self, binding: Binding) -> Artifact:
        """Return the artifact of a binding whose outputs are all known.

        Raises:
            PipesError: an output lacks the part that the binding asks for, or cannot be read.
        """
        match binding:
            case Constant():
                return self._constant(binding)
            case Stored():
                return binding.artifact
            case Output():
                return self._output(binding)
            case Gather():
                items = tuple([self.artifact(item) for item in binding.items])
                return Collection(kind=binding.kind, items=items, keys=binding.keys, type_name=binding.type_name)
            case Outcome():
                return content.store(self.outcome(), self.datastore)
            case _:
                assert_never(binding)

    def _output(self, binding: Output) -> Artifact:
        whole = self.outputs.get(binding.node)
        if whole is None:
            failure = self.failure_of(binding.node)
            if not binding.or_failure:
                raise GraphError(str(failure))
            inner = self.grown.get(binding.node)
            if inner is None:
                return content.store(failure, self.datastore)
            whole = self.artifact(_or_failure(inner))  # of a map, what went well and what did not
        return content.select(whole, binding.path, self.datastore) if binding.path else whole

    def arguments(self, node: StepNode) -> dict[str, Artifact]:
        """Return the artifact of each argument of a node whose parents have all ended well."""
        return {name: self.artifact(binding) for name, binding in node.arguments.items()}

    def is_whole(self, artifact: Artifact) -> bool:
        """Tell whether all blobs of an artifact are there, with the right sizes, and this version can read it."""
        try:
            return content.is_whole(artifact, self.datastore)
        except PipesError:
            return False

    def producers_of(self, node: StepNode, lost: Iterable[str]) -> tuple[str, ...]:
        """Return the parents of *node* whose outputs contain any of the blobs, or cannot be followed at all."""
        wanted = {Digest.parse(blob) for blob in lost}
        found = []
        for parent in self._producing(self._sources_of(node)):
            output = self.outputs[parent]
            try:
                blobs = content.blobs_of(output, self.datastore)
            except PipesError:
                blobs = wanted
            # Also what rides inline: a manifest that cannot be read is lost, too.
            if blobs & wanted or any(leaf.digest in wanted for leaf in content.leaves_of(output)):
                found.append(parent)
        return tuple(found)

    def _sources_of(self, node: StepNode) -> frozenset[str]:
        """Return the nodes that a node's arguments are outputs of; items of a list are of who made the list."""
        sources = node.data_parents
        mapped = self.maps.get(node.group or "")
        return sources if mapped is None else sources | self._sources_of(mapped)

    def _producing(self, nodes: Iterable[str]) -> list[str]:
        """Return the nodes that made the outputs of *nodes*: of steps that returned calls, the calls."""
        found: set[str] = set()
        waiting = list(nodes)
        seen = set(waiting)
        while waiting:
            node = waiting.pop()
            inner = self.grown.get(node)
            if inner is None:
                found.update({node} & self.outputs.keys())
                continue
            for output in outputs_in(inner):
                if output.node not in seen:
                    seen.add(output.node)
                    waiting.append(output.node)
        return sorted(found)

    def incomplete_producers(self, node: StepNode) -> tuple[str, ...]:
        """Return those that made the inputs of *node* and whose outputs are not whole any more."""
        return tuple(
            [made for made in self._producing(self._sources_of(node)) if not self.is_whole(self.outputs[made])]
        )

    def drop_blobs(self, blobs: Iterable[str]) -> None:
        """Remove lost or corrupt blobs from the datastore, so that they are written anew."""
        self.datastore.delete([Digest.parse(blob) for blob in blobs])


def _or_failure(binding: Binding) -> Binding:
    """Return a binding that has failures in the place of outputs that could not be made."""
    if isinstance(binding, Output):
        return replace(binding, or_failure=True)
    if isinstance(binding, Gather):
        return replace(binding, items=tuple([_or_failure(item) for item in binding.items]))
    return binding
