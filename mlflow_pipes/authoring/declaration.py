"""What is declared while a pipeline function runs: calls of steps, groups, and the scope they stand in.

These records are mutable and private to authoring; ``graphs.graph_of`` turns them into a frozen ``Graph``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from mlflow_pipes.errors import GraphError

if TYPE_CHECKING:
    from mlflow_pipes.authoring.pipeline import Pipeline
    from mlflow_pipes.authoring.step import Step
    from mlflow_pipes.model.environment import Environment
    from mlflow_pipes.model.graph import HookTime, MapOver
    from mlflow_pipes.model.step import StepOptions

DEEPEST_NESTING = 64

_positions = itertools.count()
next_position = _positions.__next__


class Declaration:
    """Every call made while a pipeline's function (and nested ones) ran, or a step's, in order.

    Attributes:
        what: ``pipeline`` or ``step``.
    """

    __slots__ = ("calls", "groups", "name", "what")

    def __init__(self, name: str, what: str = "pipeline") -> None:
        self.name = name
        self.what = what
        self.calls: list[Call] = []
        self.groups: list[Group] = []


class Group:
    """A pipeline called inside a pipeline."""

    __slots__ = ("arguments", "parent", "pipeline", "position")

    def __init__(self, pipeline: Pipeline[..., Any], arguments: Mapping[str, Any], parent: Group | None) -> None:
        self.pipeline = pipeline
        self.arguments = arguments
        self.parent = parent
        self.position = next_position()


class Awaited(NamedTuple):
    """A call that another one waits for, without data.

    Attributes:
        any_end: however it ends; else it must end well.
    """

    call: Call
    any_end: bool


class Call:
    """One call of a step.

    Attributes:
        arguments: what ``binding.bind`` made of them, by parameter name.
        position: grows with every call of the process; the order of declaration.
        declaration: None for a call outside of any pipeline.
        maps: what it is mapped over, None for one call.
        hook: when it runs at the end of the run, None for a step of it.
    """

    __slots__ = ("after", "arguments", "declaration", "group", "hook", "maps", "options", "position", "step")

    def __init__(
        self,
        step: Step[..., Any],
        arguments: Mapping[str, Any],
        options: StepOptions,
        after: tuple[Awaited, ...],
        declaration: Declaration | None,
        group: Group | None,
        maps: MapOver | None = None,
        hook: HookTime | None = None,
    ) -> None:
        self.step = step
        self.arguments = arguments
        self.options = options
        self.after = after
        self.declaration = declaration
        self.group = group
        self.maps = maps
        self.hook = hook
        self.position = next_position()

    @property
    def where(self) -> str:
        """Where it was made, for errors."""
        return (
            f"in {self.declaration.what} {self.declaration.name!r}" if self.declaration else "outside of any pipeline"
        )


Item: TypeAlias = Call | Group


class Scope:
    """Where a call stands that is made now.

    Attributes:
        after: calls that everything in the scope waits for.
        target: compute target for steps that name none.
        environment: likewise, what they run with.
        depth: how many pipelines are around it.
    """

    __slots__ = ("after", "declaration", "depth", "environment", "group", "target")

    def __init__(
        self,
        declaration: Declaration,
        group: Group | None = None,
        after: tuple[Awaited, ...] = (),
        target: str | None = None,
        depth: int = 1,
        environment: str | Environment | None = None,
    ) -> None:
        self.declaration = declaration
        self.group = group
        self.after = after
        self.target = target
        self.depth = depth
        self.environment = environment


_scope: ContextVar[Scope | None] = ContextVar("mlflow_pipes_scope", default=None)
current_scope = _scope.get


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Declare in *scope* until the block ends."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def nested_scope(outer: Scope, group: Group, after: tuple[Awaited, ...]) -> Scope:
    """Return the scope of a pipeline called inside *outer*.

    Raises:
        GraphError: pipelines call each other without end.
    """
    if outer.depth >= DEEPEST_NESTING:
        name = group.pipeline.name
        raise GraphError(
            f"pipeline {name!r} stands inside itself {DEEPEST_NESTING} pipelines deep: a recursion without end? "
            "Give it an `if` on a parameter that stops it, or write a loop"
        )
    settings = group.pipeline.settings
    return Scope(
        outer.declaration,
        group,
        outer.after + after,
        settings.target or outer.target,
        outer.depth + 1,
        settings.environment or outer.environment,
    )
