"""Codec ``graph``: the calls that a step returned (a ``model.graph.Growth``), as JSON.

Paths are relative to the growth's root, so that a graph stored by one checkout is read by another. Constants are
artifacts already; their blobs belong to the graph.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import Encoded, Stored, Storing
from mlflow_pipes.errors import BlobCorruptError
from mlflow_pipes.model.artifact import from_plain, to_plain
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.model.graph import Binding, Gather, GroupNode, Growth, MapOver, Output, StepNode
from mlflow_pipes.model.graph import Stored as StoredValue
from mlflow_pipes.model.growth import portable, portable_function
from mlflow_pipes.model.step import (
    CodeFingerprint,
    CodeLeaf,
    FunctionReference,
    ImportedFunction,
    PickledFunction,
    RetryPolicy,
    StepDefinition,
    StepOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.artifact import Artifact
    from mlflow_pipes.ports import Datastore

FORMAT = "pipes.graph/1"


class GraphCodec:
    """See the module."""

    name = "graph"

    def accepts(self, value: Any) -> bool:
        """Whether it is a growth."""
        return isinstance(value, Growth)

    def encode(self, value: Growth, storing: Storing) -> Encoded:  # noqa: ARG002 - its constants are stored already
        """Return the graph as JSON."""
        body = json.dumps({FORMAT: _Writer(value).plain()}, separators=(",", ":")).encode("utf-8", "surrogatepass")
        steps = len(value.nodes)
        return Encoded(body, f"{steps} step{'s'[: steps != 1]}")

    def decode(self, stored: Stored, wanted: Any) -> Growth:  # noqa: ARG002 - there is one type only
        """Return the graph, its paths relative."""
        return _read(stored.view())

    def blobs(self, root: memoryview, datastore: Datastore) -> set[Digest]:
        """Return the blobs of its constants."""
        from mlflow_pipes.content.parts import blobs_of

        found: set[Digest] = set()
        for artifact in _artifacts(_read(root)):
            found |= blobs_of(artifact, datastore)
        return found

    def describe(self, leaf: Any) -> str:
        """Return how many calls it has."""
        return f"calls of {leaf.form}"


CODEC = GraphCodec()


def _artifacts(growth: Growth) -> Iterator[Artifact]:
    waiting: list[Binding] = [growth.output]
    for node in growth.nodes.values():
        waiting += node.arguments.values()
    while waiting:
        binding = waiting.pop()
        if isinstance(binding, StoredValue):
            yield binding.artifact
        elif isinstance(binding, Gather):
            waiting += binding.items


class _Writer:
    """Writes each step and each set of options once: a map has thousands of calls of one step."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._steps: dict[int, int] = {}
        self._options: dict[int, int] = {}
        self._plain_steps: list[Any] = []
        self._plain_options: list[Any] = []

    def plain(self) -> dict[str, Any]:
        nodes = [self._node(node) for node in self._growth.nodes.values()]
        return {
            "steps": self._plain_steps,
            "options": self._plain_options,
            "nodes": nodes,
            "groups": [_without_default(group) for group in self._growth.groups.values()],
            "output": _plain_binding(self._growth.output),
        }

    def _node(self, node: StepNode) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "id": node.id,
            "step": self._number(node.step),
            "options": self._number_of_options(node.options),
            "arguments": {name: _plain_binding(binding) for name, binding in node.arguments.items()},
        }
        if node.after:
            plain["after"] = node.after
        if node.after_any:
            plain["after_any"] = node.after_any
        if node.group is not None:
            plain["group"] = node.group
        if node.maps is not None:
            plain["maps"] = [node.maps.parameters, node.maps.product]
        return plain

    def _number(self, step: StepDefinition) -> int:
        known = self._steps.get(id(step))
        if known is None:
            known = self._steps[id(step)] = len(self._plain_steps)
            self._plain_steps.append(_plain_step(portable(step, self._growth.root) if self._growth.root else step))
        return known

    def _number_of_options(self, options: StepOptions) -> int:
        known = self._options.get(id(options))
        if known is None:
            known = self._options[id(options)] = len(self._plain_options)
            self._plain_options.append(_plain_options(options, self._growth.root))
        return known


def _without_default(group: GroupNode) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "parameters": {name: str(value) for name, value in group.parameters.items()},
        "group": group.group,
        "timeout_s": group.timeout_s,
        "max_parallel": group.max_parallel,
    }


def _plain_binding(binding: Binding) -> dict[str, Any]:
    match binding:
        case StoredValue():
            return {"a": to_plain(binding.artifact)}
        case Output():
            plain: dict[str, Any] = {"o": binding.node}
            if binding.path:
                plain["p"] = binding.path
            if binding.or_failure:
                plain["f"] = True
            return plain
        case Gather():
            items = [_plain_binding(item) for item in binding.items]
            return {"g": binding.kind, "i": items, "k": binding.keys, "t": binding.type_name}
    raise TypeError(f"a graph that a step returns holds stored values, not {binding!r}")


def _plain_options(options: StepOptions, root: str) -> dict[str, Any]:
    when = options.retries.when
    plain = asdict(replace(options, retries=replace(options.retries, when=None)))
    if isinstance(when, ImportedFunction | PickledFunction):
        plain["retries"]["when"] = _plain_function(portable_function(when, root) if root else when)
    return plain


def _plain_function(function: FunctionReference) -> dict[str, Any]:
    if isinstance(function, ImportedFunction):
        return asdict(function)
    return {"qualname": function.qualname, "payload": base64.b64encode(function.payload).decode("ascii")}


def _plain_step(step: StepDefinition) -> dict[str, Any]:
    return {
        "name": step.name,
        "reuse": step.reuse,
        "max_age_s": step.max_age_s,
        "function": _plain_function(step.function),
        "code": {
            "digest": step.code.digest,
            "leaves": [[leaf.kind, leaf.name, leaf.digest, leaf.via] for leaf in step.code.leaves],
            "sources": step.code.sources,
            "warnings": step.code.warnings,
            "distributions": sorted(step.code.distributions),
            "shape": step.code.shape,
        },
        **({"wants_spark": True} if step.wants_spark else {}),
    }


def _read(root: memoryview) -> Growth:
    """Return the graph that :class:`_Writer` wrote.

    Raises:
        BlobCorruptError: it is of another version.
    """
    try:
        plain = json.loads(bytes(root).decode("utf-8", "surrogatepass"))[FORMAT]
        steps = [_step(one) for one in plain["steps"]]
        options = [_read_options(one) for one in plain["options"]]
        nodes = [_node(one, steps, options) for one in plain["nodes"]]
        groups = [GroupNode(**one) for one in plain["groups"]]
        output = _binding(plain["output"])
    except (ValueError, KeyError, TypeError) as error:
        raise BlobCorruptError(f"a stored graph cannot be read: {error!r}") from error
    return Growth({node.id: node for node in nodes}, {group.id: group for group in groups}, output)


def _read_options(plain: dict[str, Any]) -> StepOptions:
    options = StepOptions(**{**plain, "retries": _retries(plain["retries"])})
    declared = plain.get("environment")
    return replace(options, environment=Environment(**declared)) if isinstance(declared, dict) else options


def _retries(plain: dict[str, Any]) -> RetryPolicy:
    when = plain.get("when")
    return RetryPolicy(**{**plain, "on": tuple(plain["on"]), "when": None if when is None else _function(when)})


def _function(plain: dict[str, Any]) -> FunctionReference:
    if "payload" in plain:
        return PickledFunction(plain["qualname"], base64.b64decode(plain["payload"]))
    return ImportedFunction(**{**plain, "sources": tuple([(file, hash_) for file, hash_ in plain["sources"]])})


def _node(plain: dict[str, Any], steps: list[StepDefinition], options: list[StepOptions]) -> StepNode:
    maps = plain.get("maps")
    return StepNode(
        id=plain["id"],
        step=steps[plain["step"]],
        arguments={name: _binding(binding) for name, binding in plain["arguments"].items()},
        options=options[plain["options"]],
        after=tuple(plain.get("after", ())),
        group=plain.get("group"),
        maps=None if maps is None else MapOver(tuple(maps[0]), maps[1]),
        after_any=tuple(plain.get("after_any", ())),
    )


def _binding(plain: dict[str, Any]) -> Binding:
    if "a" in plain:
        return StoredValue(from_plain(plain["a"]))
    if "o" in plain:
        return Output(plain["o"], tuple(plain.get("p", ())), plain.get("f", False))
    return Gather(plain["g"], tuple([_binding(item) for item in plain["i"]]), tuple(plain["k"]), plain["t"])


def _step(plain: dict[str, Any]) -> StepDefinition:
    code = plain["code"]
    return StepDefinition(
        name=plain["name"],
        code=CodeFingerprint(
            digest=code["digest"],
            leaves=tuple([CodeLeaf(kind, name, digest, tuple(via)) for kind, name, digest, via in code["leaves"]]),
            sources=tuple([(file, hash_) for file, hash_ in code["sources"]]),
            warnings=tuple(code["warnings"]),
            distributions=frozenset(code["distributions"]),
            shape=code.get("shape", ""),
        ),
        function=_function(plain["function"]),
        reuse=plain["reuse"],
        max_age_s=plain["max_age_s"],
        wants_spark=plain.get("wants_spark", False),
    )
