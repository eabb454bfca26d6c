"""Graphs that steps return: made independent of a machine's folders, and put in the place of the step."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from posixpath import join, normpath, relpath

from mlflow_pipes.model.graph import Binding, Gather, GroupNode, Growth, Output, StepNode
from mlflow_pipes.model.step import FunctionReference, ImportedFunction, StepDefinition, StepOptions

_AGAIN = re.compile(r"~(\d+)$")


def portable(step: StepDefinition, root: str) -> StepDefinition:
    """Return a step whose files are named from *root*, so that another checkout can read it."""
    sources = tuple([(relpath(file, root), hash_) for file, hash_ in step.code.sources])
    return replace(step, code=replace(step.code, sources=sources), function=portable_function(step.function, root))


def portable_function(function: FunctionReference, root: str) -> FunctionReference:
    """Return a reference whose files are named from *root*."""
    return _moved(function, lambda file: relpath(file, root))


def located(step: StepDefinition, root: str, known: Mapping[str, str]) -> StepDefinition:
    """Undo :func:`portable` for the folder *root* of this machine.

    Args:
        step: as stored.
        root: folder of the step that returned the call.
        known: hashes of source files as they are now. What they changed besides the step's code is allowed for.
    """
    sources = tuple([(_at(root, file), hash_) for file, hash_ in step.code.sources])
    function = located_function(step.function, root, known)
    return replace(step, code=replace(step.code, sources=sources), function=function)


def located_function(function: FunctionReference, root: str, known: Mapping[str, str]) -> FunctionReference:
    """Undo :func:`portable_function`; arguments as of :func:`located`."""
    moved = _moved(function, lambda file: _at(root, file))
    if not isinstance(moved, ImportedFunction):
        return moved
    return replace(moved, sources=tuple([(file, known.get(file, hash_)) for file, hash_ in moved.sources]))


def _at(root: str, file: str) -> str:
    return normpath(join(root, file))


def _moved(function: FunctionReference, move: Callable[[str], str]) -> FunctionReference:
    if not isinstance(function, ImportedFunction):
        return function
    return replace(
        function,
        file=move(function.file) if function.file else "",
        root=move(function.root) if function.root else "",
        sources=tuple([(move(file), hash_) for file, hash_ in function.sources]),
    )


def grafted(growth: Growth, onto: StepNode, taken: Container[str]) -> Growth:
    """Return the growth under the ids that it has in the run: below those of the step that returned it.

    A step that returns a call of itself would get longer ids each time (``search/search/search``); it is counted
    instead: ``search``, ``search~2``, ``search~3``.

    Args:
        growth: with ids relative to the step.
        onto: the step that returned it.
        taken: ids that stand in the run already.
    """
    ids = {name: _unused(f"{onto.id}/{name}", taken) for name in growth.groups}
    for name in growth.nodes:
        if name == onto.step.name:
            wanted = _next_of(onto)
        else:  # calls that a step is mapped to are named by what they are of: ``train[depth=8]``
            wanted = f"{onto.id}{name}" if name.startswith("[") else f"{onto.id}/{name}"
        ids[name] = _unused(wanted, taken)

    def group_of(member: StepNode | GroupNode) -> str:
        return onto.id if member.group is None else ids[member.group]

    return Growth(
        nodes={
            ids[node.id]: replace(
                node,
                id=ids[node.id],
                options=_in_pipeline_of(onto, node.options),
                group=group_of(node),
                arguments={name: _rebound(binding, ids) for name, binding in node.arguments.items()},
                after=tuple([ids[other] for other in node.after]),
                after_any=tuple([ids[other] for other in node.after_any]),
            )
            for node in growth.nodes.values()
        },
        groups={
            ids[group.id]: replace(group, id=ids[group.id], group=group_of(group)) for group in growth.groups.values()
        },
        output=_rebound(growth.output, ids),
    )


def _in_pipeline_of(onto: StepNode, options: StepOptions) -> StepOptions:
    """Return the options of a returned call, which stands in the pipeline that *onto* stands in."""
    around = onto.options.pipeline_target
    if around is None or options.pipeline_target is not None:
        return options
    return replace(options, pipeline_target=around)


def _next_of(node: StepNode) -> str:
    counted = _AGAIN.search(node.id)
    return f"{node.id[: counted.start()]}~{int(counted[1]) + 1}" if counted else f"{node.id}~2"


def _unused(wanted: str, taken: Container[str]) -> str:
    unique, number = wanted, 1
    while unique in taken:
        number += 1
        unique = f"{wanted}#{number}"
    return unique


def _rebound(binding: Binding, ids: Mapping[str, str]) -> Binding:
    if isinstance(binding, Output):
        return replace(binding, node=ids[binding.node])
    if isinstance(binding, Gather):
        return replace(binding, items=tuple([_rebound(item, ids) for item in binding.items]))
    return binding
