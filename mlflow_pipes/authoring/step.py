"""``@step``: a function whose calls are declared, typed as if they were made."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from mlflow_pipes.authoring.binding import Bound, Parameters, references_in
from mlflow_pipes.authoring.declaration import Awaited, Call, current_scope
from mlflow_pipes.authoring.mapping import bind_mapped
from mlflow_pipes.authoring.reference import OutputRef, call_of, calls_in
from mlflow_pipes.authoring.settings import CallOptions, Errors, Settings, Tokens, changed, checked_name
from mlflow_pipes.errors import DeclarationError, GraphError
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.model.graph import Constant, MapOver
from mlflow_pipes.model.step import CodeFingerprint, RetryPolicy, ReuseMode

P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """A declared step. Calling it declares a call and returns an ``OutputRef``, typed as what the function returns.

    Attributes:
        function: the plain function, for unit tests.
        settings: everything that was said about it, with the changes of ``.options(...)``.
        declared: the settings without those changes.
        parameters: the function's parameters.
        call_name: the node's name for calls through it, from ``.options(name=...)``.
        code: its fingerprint, where it came here by value from a process that could read its source; else None.
    """

    declares_calls = True

    def __init__(self, function: Callable[P, R], settings: Settings, parameters: Parameters) -> None:
        functools.update_wrapper(self, function)  # also sets __wrapped__, which inspect and fingerprints follow
        self.function = function
        self.settings = settings
        self.declared = settings
        self.parameters = parameters
        self.call_name: str | None = None
        self.code: CodeFingerprint | None = None
        self._after: tuple[Awaited, ...] = ()

    @property
    def name(self) -> str:
        """The step's name: the function's, unless ``@step(name=...)`` says otherwise."""
        return self.settings.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Declare a call.

        Raises:
            ArgumentError: an argument is missing, unknown or certainly of the wrong type.
            GraphError: an argument is the output of a call in another pipeline.
        """
        return cast("R", self._called(self.parameters.bind(args, kwargs), None, self.parameters.returns))

    def map(self, *args: Any, **kwargs: Any) -> list[R]:
        """Declare a call for each item of a list: ``train.map(parts, depth=8)`` trains on each part.

        The list may be an output that is there only when the run has come so far. Positional arguments are taken
        apart, of several lists the n-th items go together; arguments by name are shared, unless ``each(...)`` says
        otherwise. The output is the list of the calls' outputs; of a dict, the dict with its keys.
        ``train.options(max_parallel=4).map(...)`` limits how many run at once.

        Raises:
            ArgumentError: an argument is missing, unknown, certainly of the wrong type, or cannot be taken apart.
        """
        return cast("list[R]", self._called(*bind_mapped(self.parameters, args, kwargs, product=False)))

    def map_product(self, *args: Any, **kwargs: Any) -> list[R]:
        """Declare a call for each combination of the lists' items, the last one's changing fastest; see ``map``."""
        return cast("list[R]", self._called(*bind_mapped(self.parameters, args, kwargs, product=True)))

    def _called(self, bound: dict[str, Bound], maps: MapOver | None, returns: Any) -> OutputRef:
        scope = current_scope()
        options = self.settings.options
        if scope is None:
            call = Call(self, bound, options, self._after, None, None, maps)
        else:
            if scope.environment is not None and options.environment is None:
                options = dataclasses.replace(options, environment=scope.environment)
            if scope.target is not None:
                options = dataclasses.replace(options, pipeline_target=scope.target)
            call = Call(self, bound, options, self._after + scope.after, scope.declaration, scope.group, maps)
        for argument in bound.values():
            cls = type(argument)
            if cls is OutputRef:
                _check_origin(call, call_of(cast("OutputRef", argument)))
            elif cls is not Constant:
                for ref in references_in(argument):
                    _check_origin(call, call_of(ref))
        for other, _ in call.after:
            _check_origin(call, other)
        if scope is not None:
            scope.declaration.calls.append(call)
        return OutputRef(call, (), returns)

    def options(self, **changes: Unpack[CallOptions]) -> Step[P, R]:
        """Return the same step with other options for the calls made through it: ``train.options(cpus=4)(...)``.

        ``name`` names the node of the call, so that it can be found in history; two calls with one name are an error.

        Raises:
            DeclarationError: an option is unknown or has an impossible value.
        """
        plain: dict[str, Any] = dict(changes)
        copy = self._copy()
        if "name" in plain:
            copy.call_name = checked_name(plain.pop("name"), f"step {self.name!r}")
        copy.settings = changed(self.settings, plain, f"step {self.name!r}")
        return copy

    def after(self, *others: Any) -> Step[P, R]:
        """Return the same step, whose calls wait until others have ended well: ``report.after(deployed)(...)``.

        Only the order is changed: nothing of it is in the key. *others* are what step or pipeline calls returned.
        """
        copy = self._copy()
        vars(copy)["_after"] = tuple(
            dict.fromkeys([*self._after, *calls_in(others, f"step {self.name!r}, after(...)")])
        )
        return copy

    def _copy(self) -> Step[P, R]:
        copy: Step[P, R] = object.__new__(type(self))
        vars(copy).update(vars(self))
        return copy

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        owner = sys.modules.get(self.function.__module__)
        qualname = getattr(self.function, "__qualname__", "")
        if self.function.__module__ != "__main__" and getattr(owner, qualname, None) is self:
            return qualname  # by reference, as functions are
        return _step_of, (self.function, self.declared, self.code or _code_typed_in(self.function, self.declared))


def _step_of(function: Callable[P, R], settings: Settings, code: CodeFingerprint | None = None) -> Step[P, R]:
    step = Step(function, settings, Parameters(function, f"step {settings.name!r}"))
    step.code = code
    return step


def _code_typed_in(function: Callable[..., Any], settings: Settings) -> CodeFingerprint | None:
    """Return the fingerprint of a function without a file: a worker that is sent it has no source to read."""
    from mlflow_pipes.fingerprint.code import fingerprint
    from mlflow_pipes.fingerprint.scopes import file_of_function

    plain = inspect.unwrap(function)
    if not inspect.isfunction(plain) or file_of_function(plain) is not None:
        return None
    return fingerprint(function, uses=settings.uses, version=settings.version, replace_code=settings.replace_code)


def _check_origin(call: Call, other: Call) -> None:
    if other.declaration is not call.declaration:
        raise GraphError(
            f"step {call.step.name!r}, called {call.where}, was given the output of {other.step.name!r}, "
            f"called {other.where}; make both calls in one pipeline"
        )


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    target: str | None = None,
    cpus: float = 1.0,
    memory: str | int = 0,
    gpus: int = 0,
    tokens: Tokens | None = None,
    timeout_s: float | None = None,
    total_timeout_s: float | None = None,
    max_parallel: int | None = None,
    max_depth: int = 1000,
    optional: bool = False,
    retries: int | RetryPolicy = 0,
    retry_on: Errors = (),
    retry_if: Callable[[BaseException], bool] | None = None,
    reuse: ReuseMode = "content",
    max_age_s: float | None = None,
    version: str | None = None,
    replace_code: bool = False,
    uses: Iterable[Any] = (),
    priority: int = 0,
    tags: Mapping[str, str] | None = None,
    environment: str | Environment | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Make a step of a function: ``@step`` or ``@step(cpus=2, retries=3)``.

    The function must be a plain ``def`` whose arguments can be given by name: no ``*args``, no ``/``, no generator,
    no ``async``. ``**kwargs`` are fine: each becomes an argument of its own.

    Args:
        function: the function, when used without parentheses.
        **options: by keyword:
            ``name`` of the step, by default the function's;
            ``target``: name of a compute target;
            ``cpus``: cores that an attempt occupies; ``memory``: likewise, ``"2GB"``, ``"512 MiB"`` or bytes;
            ``gpus``: graphics processors that an attempt has to itself, and sees in ``CUDA_VISIBLE_DEVICES``;
            ``tokens``: what an attempt holds of what all runs of the workspace share, as the configuration names it:
            ``"database"`` for one, or ``{"database": 2}``;
            ``timeout_s``: longest time of one attempt; ``total_timeout_s``: of all attempts, the waits between them,
            and the calls that the step returned;
            ``max_parallel``: how many of the calls that it is mapped to, or returns, run at once at most;
            ``max_depth``: how deep calls returned by calls may stand in each other below it;
            ``optional``: whether its failure fails nothing else: only what needs its output is skipped;
            ``retries``: further attempts after a failed one, or a ``RetryPolicy``; ``retry_on``: only after these
            exceptions; ``retry_if``: only if this function, given the exception, says so;
            ``reuse``: ``"content"``, or ``"never"`` for effects; ``max_age_s``: reuse only what is younger;
            ``version``: a text that is added to the code fingerprint, or stands for it with ``replace_code=True``;
            ``uses``: functions, classes or modules that the code reaches in ways that cannot be followed;
            ``priority``: larger goes first among the steps of its run; ``tags``: free labels;
            ``environment``: interpreter and packages that it runs with, by their name in the configuration or as an
            ``Environment``; by default those that declare the pipeline.

    Raises:
        DeclarationError: the function cannot be a step, or an option has an impossible value.
    """
    if function is None:
        return functools.partial(_declared, options=options)
    return _declared(function, options)


def _declared(function: Callable[P, R], options: Mapping[str, Any]) -> Step[P, R]:
    culprit = checked_function(function, "step")
    given = {option: value for option, value in options.items() if value is not None}
    name = checked_name(given.pop("name", function_name(function)), culprit)
    if given.get("retry_on") == ():
        del given["retry_on"]
    settings = changed(Settings(name), given, culprit)
    return Step(function, settings, Parameters(function, culprit))


def function_name(function: Any) -> str:
    """Return the function's own name; a partial's is that of the function inside."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def checked_function(function: Any, what: str) -> str:
    """Return how errors name the function: ``step 'train' (app/train.py:12)``.

    Raises:
        DeclarationError: it cannot be a step or a pipeline, whatever its arguments.
    """
    if getattr(function, "declares_calls", False):
        raise DeclarationError(f"@{what} was put on {function!r}; decorate the plain function, and only once")
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not callable(plain) or isinstance(plain, (type, staticmethod, classmethod)):
        raise DeclarationError(f"@{what} takes a function, not {function!r}; write `def` and call that inside")
    code = getattr(plain, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    culprit = f"{what} {function_name(function)!r}{place}"
    if function_name(function) == "<lambda>":
        raise DeclarationError(f"{culprit} is a lambda, which has no name to be found by; write `def` at module level")
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise DeclarationError(f"{culprit} is async; write a plain `def` and run the loop inside: `asyncio.run(...)`")
    if inspect.isgeneratorfunction(plain):
        raise DeclarationError(f"{culprit} is a generator (it has `yield`); build a list and return it")
    return culprit
