"""Calls of further steps that a step returned: made storable, so that they can stand in the step's place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_pipes import content
from mlflow_pipes.model.step import ImportedFunction

if TYPE_CHECKING:
    from mlflow_pipes.authoring.declaration import Declaration
    from mlflow_pipes.model.graph import Binding, Growth
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore


def returned_calls(
    value: Any, declaration: Declaration, function: FunctionReference, datastore: Datastore
) -> Growth | None:
    """Return the calls in what a step returned, their constants stored; None when there is none in it.

    Args:
        value: what the step returned.
        declaration: the calls that were made while it ran.
        function: the step's.
        datastore: where constants go.

    Raises:
        DeclarationError: a call cannot be shipped, or stands in something that cannot hold calls.
        UnstorableOutputError: an argument cannot be stored.
    """
    from mlflow_pipes.authoring.binding import freeze, references_in
    from mlflow_pipes.authoring.graphs import growth_of

    returned = freeze(value, f"what step {declaration.name!r} returned")
    if next(references_in(returned), None) is None:
        return None
    growth = growth_of(returned, declaration)
    root = function.root if isinstance(function, ImportedFunction) else ""
    nodes = {
        node.id: replace(
            node,
            arguments={
                name: _stored(binding, datastore, f"argument {name!r} of {node.id!r}")
                for name, binding in node.arguments.items()
            },
        )
        for node in growth.nodes.values()
    }
    output = _stored(growth.output, datastore, f"output of {declaration.name}")
    return replace(growth, nodes=nodes, output=output, root=root)


def _stored(binding: Binding, datastore: Datastore, where: str) -> Binding:
    from mlflow_pipes.model.graph import Constant, Gather, Stored

    if isinstance(binding, Constant):
        return Stored(content.store(binding.value, datastore, name=where))
    if isinstance(binding, Gather):
        return replace(binding, items=tuple([_stored(item, datastore, where) for item in binding.items]))
    return binding


def forgotten_calls(declaration: Declaration, growth: Growth | None) -> str:
    """Return a warning that names calls which were made but not returned, so that they do not run; empty for none."""
    kept = 0 if growth is None else len(growth.nodes)
    if len(declaration.calls) <= kept:
        return ""
    names = ", ".join(sorted({repr(call.step.name) for call in declaration.calls}))
    made = len(declaration.calls)
    return (
        f"step {declaration.name!r} made {made} call{'s'[: made != 1]} of steps ({names}) and returned {kept} of "
        "them: only what is returned, or needed by that, runs"
    )
