"""``@pipeline``: a plain function that declares a graph by calling steps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from mlflow_pipes.authoring.binding import Bound, Parameters, freeze, references_in
from mlflow_pipes.authoring.declaration import (
    Awaited,
    Call,
    Declaration,
    Group,
    Scope,
    current_scope,
    entered,
    nested_scope,
)
from mlflow_pipes.authoring.hooks import Hooks, checked_hooks, hook_call
from mlflow_pipes.authoring.reference import call_of, calls_in, text_of
from mlflow_pipes.authoring.settings import (
    checked_environment,
    checked_name,
    checked_priority,
    checked_tags,
    checked_target,
    positive,
    whole,
)
from mlflow_pipes.authoring.step import Step, checked_function, function_name
from mlflow_pipes.errors import ArgumentError, GraphError, suggest
from mlflow_pipes.machine.garbage import collected_rarely
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.model.graph import HookTime
from mlflow_pipes.quick_dataclasses import dataclass

P = ParamSpec("P")
R = TypeVar("R")


class PipelineOptions(TypedDict, total=False):
    """What ``pipeline.options(...)`` can change; see :func:`pipeline` for the meanings."""

    name: str
    fail_fast: bool
    experiment: str | None
    timeout_s: float | None
    target: str | None
    tags: Mapping[str, str]
    max_parallel: int | None
    priority: int
    on_success: Hooks
    on_failure: Hooks
    always: Hooks
    environment: str | Environment | None


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """All that is said about a pipeline besides its function."""

    name: str
    fail_fast: bool = True
    experiment: str | None = None
    timeout_s: float | None = None
    target: str | None = None
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_parallel: int | None = None
    priority: int = 0
    on_success: tuple[Step[..., Any], ...] = ()
    on_failure: tuple[Step[..., Any], ...] = ()
    always: tuple[Step[..., Any], ...] = ()
    environment: str | Environment | None = None

    @property
    def hooks(self) -> list[tuple[HookTime, Step[..., Any]]]:
        """Every exit hook, with when it runs."""
        return [
            *(("on_success", hook) for hook in self.on_success),
            *(("on_failure", hook) for hook in self.on_failure),
            *(("always", hook) for hook in self.always),
        ]


class PipelineCall:
    """A declared pipeline, ready for ``run(...)``; nothing has run.

    Attributes:
        pipeline: what was called.
        arguments: by parameter name, defaults included.
        declaration: the calls that its function made.
        output: what its function returned.
    """

    declared_only = True

    __slots__ = ("arguments", "declaration", "output", "pipeline")

    def __init__(
        self,
        pipeline: Pipeline[..., Any],
        arguments: Mapping[str, Any],
        declaration: Declaration,
        output: Bound | None,
    ) -> None:
        self.pipeline = pipeline
        self.arguments = arguments
        self.declaration = declaration
        self.output = output

    def __repr__(self) -> str:
        steps = len(self.declaration.calls)
        return f"<pipeline call {self.pipeline.name}: {steps} step{'s'[: steps != 1]}, not run yet>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"a PipelineCall has no {name!r}")
        self._refuse(f".{name}")

    def __getitem__(self, item: Any) -> NoReturn:
        self._refuse(f"[{item!r}]")

    def __bool__(self) -> bool:  # noqa: PLE0304 - refuses
        self._refuse("as a condition")

    def __iter__(self) -> NoReturn:
        self._refuse("in a loop")

    def _refuse(self, tried: str) -> NoReturn:
        raise GraphError(
            f"pipeline {self.pipeline.name!r} is declared but has not run, so its output cannot be used ({tried}); "
            f"write `run({self.pipeline.name}(...)).output()`"
        )


class Pipeline(Generic[P, R]):
    """A declared pipeline. Calling it runs its function once, to declare the graph.

    At the top it returns a ``PipelineCall`` for ``run(...)``; inside another pipeline it is a child run with the steps
    in it, and returns what the function returned. Both are typed as that.

    Attributes:
        function: the plain function.
        settings: everything else that was said about it.
        parameters: the function's parameters.
    """

    declares_calls = True

    def __init__(self, function: Callable[P, R], settings: PipelineSettings, parameters: Parameters) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.settings = settings
        self.parameters = parameters
        self.call_name: str | None = None
        self._after: tuple[Awaited, ...] = ()

    @property
    def name(self) -> str:
        """The pipeline's name: the function's, unless ``@pipeline(name=...)`` says otherwise."""
        return self.settings.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Declare the graph.

        Raises:
            ArgumentError: an argument is missing, unknown or certainly of the wrong type.
            GraphError: there is no step in it, or it returns or is given an output of another pipeline.
        """
        bound = self.parameters.bind(args, kwargs)
        scope = current_scope()
        if scope is None:
            return cast("R", self._declare(bound, args, kwargs))
        for argument in bound.values():
            self._check_origin(argument, scope.declaration, "was given")
        for other, _ in self._after:
            self._check_call(other, scope.declaration, "stands after")
        if self.settings.hooks:
            _, hook = self.settings.hooks[0]
            raise GraphError(
                f"pipeline {self.name!r} has the exit hook {hook.name!r} and is called inside a pipeline, but hooks "
                "are of a whole run: give them to the outermost pipeline, and call this one with "
                f"{self.name}.options(on_success=(), on_failure=(), always=())(...)"
            )
        group = Group(self, bound, scope.group)
        scope.declaration.groups.append(group)
        with entered(nested_scope(scope, group, self._after)):
            returned = self.function(*args, **kwargs)
        self._check_origin(freeze(returned, f"{self!r}, what it returns"), scope.declaration, "returned")
        return returned

    def _declare(self, bound: Mapping[str, Bound], args: Any, kwargs: Any) -> PipelineCall:
        declaration = Declaration(self.name)
        for name, argument in bound.items():
            for ref in references_in(argument):
                raise GraphError(
                    f"pipeline {self.name!r} was given {text_of(ref)} for {name!r}, made outside of it; "
                    "make that call in the pipeline function"
                )
        for other, _ in self._after:
            self._check_call(other, declaration, "stands after")
        scope = Scope(declaration, target=self.settings.target, environment=self.settings.environment)
        with collected_rarely(), entered(scope):
            returned = self.function(*args, **kwargs)
        if not declaration.calls:
            raise GraphError(f"pipeline {self.name!r} has no steps: its function called none; call a @step in it")
        declaration.calls += [
            hook_call(hook, time, declaration, self.settings.target) for time, hook in self.settings.hooks
        ]
        output = None if returned is None else freeze(returned, f"{self!r}, what it returns")
        self._check_origin(output, declaration, "returned")
        arguments = {**self.parameters.defaults, **_constants(bound)}
        return PipelineCall(self, arguments, declaration, output)

    def options(self, **changes: Unpack[PipelineOptions]) -> Pipeline[P, R]:
        """Return the same pipeline with other options; ``name`` names this call's child run inside another pipeline."""
        copy = self._copy()
        plain: dict[str, Any] = dict(changes)
        culprit = f"pipeline {self.name!r}"
        if "name" in plain:
            copy.call_name = checked_name(plain.pop("name"), culprit)
        copy.settings = _changed(self.settings, plain, culprit)
        return copy

    def after(self, *others: Any) -> Pipeline[P, R]:
        """Return the same pipeline, all steps of which wait until others have ended well. Not in any key."""
        copy = self._copy()
        vars(copy)["_after"] = tuple(
            dict.fromkeys([*self._after, *calls_in(others, f"pipeline {self.name!r}, after(...)")])
        )
        return copy

    def _copy(self) -> Pipeline[P, R]:
        copy: Pipeline[P, R] = object.__new__(type(self))
        vars(copy).update(vars(self))
        return copy

    def _check_origin(self, bound: Bound | None, declaration: Declaration, did: str) -> None:
        if bound is not None:
            for ref in references_in(bound):
                self._check_call(call_of(ref), declaration, did)

    def _check_call(self, call: Call, declaration: Declaration, did: str) -> None:
        if call.declaration is not declaration:
            raise GraphError(
                f"pipeline {self.name!r} {did} the output of {call.step.name!r}, which was called {call.where}; "
                f"call {call.step.name!r} in the same pipeline"
            )

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


def _constants(bound: Mapping[str, Bound]) -> dict[str, Any]:
    return {name: getattr(argument, "value", argument) for name, argument in bound.items()}


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    fail_fast: bool = True,
    experiment: str | None = None,
    timeout_s: float | None = None,
    target: str | None = None,
    tags: Mapping[str, str] | None = None,
    max_parallel: int | None = None,
    priority: int = 0,
    on_success: Hooks = (),
    on_failure: Hooks = (),
    always: Hooks = (),
    environment: str | Environment | None = None,
) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(function: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Make a pipeline of a function that calls steps: ``@pipeline`` or ``@pipeline(fail_fast=False)``.

    Args:
        function: the function, when used without parentheses.
        **options: by keyword:
            ``name``, by default the function's;
            ``fail_fast``: whether the first failure cancels what runs, else all that is not downstream goes on;
            ``experiment``: in MLflow, by default the pipeline's name;
            ``timeout_s``: longest time of the whole run (inside another pipeline: from its first step's start);
            ``max_parallel``: how many of its steps run at once at most;
            ``priority``: of its runs, larger goes first where runs share targets or tokens;
            ``on_success``, ``on_failure``, ``always``: exit hooks, a step or several: run once, when all else has
            ended, and given a ``RunOutcome`` if they take an argument;
            ``target``: compute target of steps that name none; ``environment``: likewise, interpreter and packages
            that they run with; ``tags``: free labels.

    Raises:
        DeclarationError: the function cannot be a pipeline, or an option has an impossible value.
    """
    if function is None:
        return functools.partial(_declared, options=options)
    return _declared(function, options)


def _declared(function: Callable[P, R], options: Mapping[str, Any]) -> Pipeline[P, R]:
    culprit = checked_function(function, "pipeline")
    given = {option: value for option, value in options.items() if value is not None}
    name = checked_name(given.pop("name", function_name(function)), culprit)
    settings = _changed(PipelineSettings(name), given, culprit)
    return Pipeline(function, settings, Parameters(function, culprit, takes_steps=True))


def _changed(settings: PipelineSettings, changes: Mapping[str, Any], culprit: str) -> PipelineSettings:
    known = PipelineOptions.__annotations__.keys()
    checked = dict(changes)
    for option, value in changes.items():
        what = f"{culprit}: {option}={value!r}"
        match option:
            case "timeout_s":
                positive(value, what)
            case "max_parallel":
                whole(value, what)
            case "priority":
                checked_priority(value, what)
            case "on_success" | "on_failure" | "always":
                checked[option] = checked_hooks(value, what)
            case "target":
                checked_target(value, what)
            case "environment":
                checked_environment(value, what)
            case "tags":
                checked_tags(value, culprit)
            case "fail_fast" if not isinstance(value, bool):
                raise ArgumentError(f"{what} is neither True nor False")
            case _ if option not in known:
                near = suggest(option, known) or f"; there are {', '.join(known)}"
                raise ArgumentError(f"{culprit} has no option {option!r}{near}")
    return dataclasses.replace(settings, **checked)
