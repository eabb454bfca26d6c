"""``graph_of``: what was declared, as a frozen graph with fingerprints."""

from __future__ import annotations

import graphlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from mlflow_pipes.authoring.binding import Bound, Nest, references_in
from mlflow_pipes.authoring.declaration import Call, Declaration, Group
from mlflow_pipes.authoring.names import assign
from mlflow_pipes.authoring.pipeline import Pipeline, PipelineCall
from mlflow_pipes.authoring.reference import OutputRef, call_of, path_of, takes_failure, text_of
from mlflow_pipes.authoring.settings import Settings
from mlflow_pipes.authoring.step import Step
from mlflow_pipes.errors import GraphError
from mlflow_pipes.hints import plain_function
from mlflow_pipes.machine.garbage import collected_rarely
from mlflow_pipes.model.graph import Binding, Constant, Gather, Graph, GroupNode, Growth, Outcome, Output, StepNode
from mlflow_pipes.model.step import CodeFingerprint, FunctionReference, StepDefinition, StepOptions

Identify: TypeAlias = Callable[[Callable[..., Any], Settings], tuple[CodeFingerprint, FunctionReference]]


def fingerprinted(function: Callable[..., Any], settings: Settings) -> tuple[CodeFingerprint, FunctionReference]:
    """Return the code that a step reaches, and how a worker finds its function.

    Raises:
        FingerprintError: it cannot be followed, or cannot be shipped (a lambda, a nested function).
    """
    from mlflow_pipes.fingerprint.code import fingerprint
    from mlflow_pipes.fingerprint.reference import reference

    code = fingerprint(function, uses=settings.uses, version=settings.version, replace_code=settings.replace_code)
    return code, reference(function, code)


def _known(step: Step[..., Any], code: CodeFingerprint) -> tuple[CodeFingerprint, FunctionReference]:
    """Return what :func:`fingerprinted` does, for a step that came with its fingerprint."""
    from mlflow_pipes.fingerprint.reference import reference

    return code, reference(step.function, code)


def graph_of(call: Any, *, identify: Identify = fingerprinted) -> Graph:
    """Return the graph of a step call or a pipeline call; a pipeline without required parameters stands for its call.

    Code is fingerprinted once for each step and anew for each graph, since a notebook redefines functions.

    Raises:
        GraphError: *call* is nothing that can run, two steps have one name, or there is a cycle.
        FingerprintError: a step's code cannot be fingerprinted or shipped.
    """
    if isinstance(call, Pipeline):
        call = call()
    with collected_rarely():
        if isinstance(call, PipelineCall):
            return _graph_of_pipeline(call, identify)
        if type(call) is OutputRef:
            return _graph_of_step(call, identify)
    if isinstance(call, Step):
        raise GraphError(f"{call!r} is the step itself; call it: run({call.name}(...))")
    raise GraphError(f"{call!r} is neither a step call nor a pipeline call; write run(train(...))")


def _graph_of_pipeline(call: PipelineCall, identify: Identify) -> Graph:
    pipeline, declaration = call.pipeline, call.declaration
    nodes = _Nodes(assign([*declaration.groups, *declaration.calls]), identify)
    settings = pipeline.settings
    return Graph(
        name=pipeline.name,
        nodes=nodes.of(declaration.calls),
        groups=nodes.groups_of(declaration, declaration.calls),
        output=None if call.output is None else nodes.binding(call.output),
        parameters=call.arguments,
        fail_fast=settings.fail_fast,
        experiment=settings.experiment,
        timeout_s=settings.timeout_s,
        max_parallel=settings.max_parallel,
        priority=settings.priority,
        tags=settings.tags,
        file=_file_of(pipeline.function),
        doc=_doc_of(pipeline.function),
    )


def _graph_of_step(ref: OutputRef, identify: Identify) -> Graph:
    call = call_of(ref)
    if call.declaration is not None:
        raise GraphError(
            f"{text_of(ref)} was called {call.where}, so it cannot run alone; run({call.declaration.name}(...)) instead"
        )
    calls = _ancestors(call)
    nodes = _Nodes(assign(calls), identify)
    function = call.step.function
    return Graph(
        name=call.step.name,
        nodes=nodes.of(calls),
        output=nodes.binding(ref),
        parameters={name: bound.value for name, bound in call.arguments.items() if isinstance(bound, Constant)},
        file=_file_of(function),
        doc=_doc_of(function),
    )


def growth_of(returned: Bound, declaration: Declaration, *, identify: Identify = fingerprinted) -> Growth:
    """Return the calls that a step returned, and those that they need; constants are values still.

    Args:
        returned: what the step returned, frozen.
        declaration: the calls that were made while it ran.
        identify: as for :func:`graph_of`.

    Raises:
        GraphError, FingerprintError: as of :func:`graph_of`.
    """
    calls = _ancestors(*(call_of(ref) for ref in references_in(returned)))
    nodes = _Nodes(assign([*_filled(declaration, calls), *calls]), identify)
    return Growth(nodes.of(calls), nodes.groups_of(declaration, calls), nodes.binding(returned))


def _filled(declaration: Declaration, calls: Iterable[Call]) -> list[Group]:
    """Return the groups that any of the calls stands in, outer ones first."""
    filled = {call.group for call in calls}
    for group in reversed(declaration.groups):  # the inner after the outer: a group is filled when one inside is
        if group in filled:
            filled.add(group.parent)
    return [group for group in declaration.groups if group in filled]


def _ancestors(*calls: Call) -> list[Call]:
    """Return calls and all that they wait for, in the order of declaration."""
    found = set(calls)
    waiting = list(calls)
    while waiting:
        current = waiting.pop()
        parents = [call_of(ref) for bound in current.arguments.values() for ref in references_in(bound)]
        for parent in (*parents, *(other for other, _ in current.after)):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, key=lambda call: call.position)


class _Nodes:
    """Turns declared records into frozen ones, under the names they were given."""

    def __init__(self, ids: Mapping[Call | Group, str], identify: Identify) -> None:
        self._ids = ids
        self._identify = identify
        self._definitions: dict[Any, StepDefinition] = {}
        self._predicates: dict[int, FunctionReference] = {}
        self._identities: dict[Any, tuple[CodeFingerprint, FunctionReference]] = {}

    def of(self, calls: Sequence[Call]) -> dict[str, StepNode]:
        """Return the nodes by id, parents before children."""
        return {self._ids[call]: self._node(call) for call in self._in_order(calls)}

    def _in_order(self, calls: Sequence[Call]) -> Sequence[Call]:
        # data always flows from earlier calls to later ones; only `ref.after(...)` can point the other way
        if all(other.position < call.position for call in calls for other, _ in call.after):
            return calls
        sorter: graphlib.TopologicalSorter[Call] = graphlib.TopologicalSorter()
        for call in calls:
            data = [call_of(ref) for bound in call.arguments.values() for ref in references_in(bound)]
            sorter.add(call, *data, *(other for other, _ in call.after))
        try:
            sorter.prepare()
        except graphlib.CycleError as error:
            names = " -> ".join(self._ids[call] for call in error.args[1])
            raise GraphError(f"cycle (through `.after`): {names}; remove one of the `.after` on it") from None
        ordered: list[Call] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=lambda call: call.position)
            ordered += ready
            sorter.done(*ready)
        return ordered

    def _node(self, call: Call) -> StepNode:
        ids = self._ids
        return StepNode(
            id=ids[call],
            step=self._definition(call.step),
            arguments={
                name: bound if type(bound) is Constant else self.binding(bound)
                for name, bound in call.arguments.items()
            },
            options=call.options if call.options.retries.when is None else self._shipped(call.options),
            after=tuple([ids[other] for other, any_end in call.after if not any_end]) if call.after else (),
            after_any=tuple([ids[other] for other, any_end in call.after if any_end]) if call.after else (),
            group=None if call.group is None else ids[call.group],
            maps=call.maps,
            hook=call.hook,
        )

    def groups_of(self, declaration: Declaration, calls: Iterable[Call]) -> dict[str, GroupNode]:
        """Return the sub-pipelines by id, without empty ones."""
        return {self._ids[group]: self._group(group) for group in _filled(declaration, calls)}

    def _group(self, group: Group) -> GroupNode:
        """Return a sub-pipeline's node; arguments that are outputs stand as texts."""
        arguments = {name: self._parameter(bound) for name, bound in group.arguments.items()}
        return GroupNode(
            id=self._ids[group],
            name=group.pipeline.name,
            parameters={**group.pipeline.parameters.defaults, **arguments},
            group=None if group.parent is None else self._ids[group.parent],
            timeout_s=group.pipeline.settings.timeout_s,
            max_parallel=group.pipeline.settings.max_parallel,
        )

    def binding(self, bound: Bound) -> Binding:
        """Return the binding with references replaced by node ids."""
        if type(bound) is OutputRef:
            return Output(self._ids[call_of(bound)], path_of(bound), takes_failure(bound))
        if type(bound) is Nest:
            return Gather(bound.kind, tuple([self.binding(item) for item in bound.items]), bound.keys, bound.type_name)
        assert isinstance(bound, Constant | Outcome)
        return bound

    def _parameter(self, bound: Bound) -> Any:
        if isinstance(bound, Constant):
            return bound.value
        refs = [
            f"{self._ids[call_of(ref)]}{text_of(ref)[len(call_of(ref).step.name) + 1 : -1]}"
            for ref in references_in(bound)
        ]
        return f"output of {', '.join(refs)}"

    def _shipped(self, options: StepOptions) -> StepOptions:
        """Return options whose retry predicate is named such that a worker finds it."""
        when = options.retries.when
        if not callable(when):
            return options
        if id(when) not in self._predicates:
            self._predicates[id(when)] = self._identify(when, Settings(getattr(when, "__name__", "retry_if")))[1]
        return replace(options, retries=replace(options.retries, when=self._predicates[id(when)]))

    def _definition(self, step: Step[..., Any]) -> StepDefinition:
        settings = step.settings
        # steps live as long as their calls, so ids are not reused meanwhile
        key = (id(step.function), settings.name, settings.reuse, settings.max_age_s, id(step.declared))
        known = self._definitions.get(key)
        if known is None:
            known = self._definitions[key] = self._define(step)
        return known

    def _define(self, step: Step[..., Any]) -> StepDefinition:
        settings = step.settings
        key = (id(step.function), settings.version, settings.replace_code, tuple(map(id, settings.uses)))
        if key not in self._identities:
            sent = step.code
            self._identities[key] = self._identify(step.function, settings) if sent is None else _known(step, sent)
        code, function = self._identities[key]
        return StepDefinition(
            name=settings.name,
            code=code,
            function=function,
            reuse=settings.reuse,
            max_age_s=settings.max_age_s,
            options=step.declared.options,
            doc=_doc_of(step.function),
            wants_spark=step.parameters.wants_spark,
        )


def _file_of(function: Any) -> str:
    code = getattr(plain_function(function), "__code__", None)
    return code.co_filename if code else ""


def _doc_of(function: Any) -> str:
    return inspect.getdoc(plain_function(function)) or ""
