"""From a function's reference to the function, once per process."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from mlflow_pipes.errors import StepError
from mlflow_pipes.hints import hints_of
from mlflow_pipes.machine.garbage import collected_rarely
from mlflow_pipes.model.step import FunctionReference, ImportedFunction, PickledFunction
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.spark_session import session_parameters
from mlflow_pipes.worker.context import importing
from mlflow_pipes.worker.sources import SourceChangedError, Sources

# A service that lives for weeks must not keep every notebook cell that it ever ran.
_MOST_KEPT = 1024


class FunctionNotFoundError(StepError):
    """The function that a reference names is not where it should be."""


@dataclass(frozen=True, slots=True)
class FoundFunction:
    """A step's function, ready to be called.

    Attributes:
        function: the plain function.
        wanted: type hint of each parameter, ``Any`` where there is none or it cannot be resolved.
        returns: type hint of the output.
        ordered: (name, default) of the parameters that must be passed by position; usually none.
        star, double_star: names of ``*args`` and ``**kwargs``.
        unread: sources that no module was loaded from; to be checked again before each call, because
            the function may import them while it runs.
        sessions: parameters that are given the Spark session where the caller gave nothing.
    """

    function: Callable[..., Any]
    wanted: Mapping[str, Any]
    returns: Any
    ordered: tuple[tuple[str, Any], ...] = ()
    star: str | None = None
    double_star: str | None = None
    unread: tuple[tuple[str, str], ...] = ()
    sessions: frozenset[str] = frozenset()

    def call(self, arguments: dict[str, Any]) -> Any:
        """Call the function with its arguments by parameter name."""
        if not self.ordered and self.star is None and self.double_star is None:
            return self.function(**arguments)
        positional = [arguments.pop(name, default) for name, default in self.ordered]
        if self.star is not None:
            positional += arguments.pop(self.star, ())
        if self.double_star is not None:
            arguments |= arguments.pop(self.double_star, {})
        return self.function(*positional, **arguments)


class Functions:
    """The functions that this process has found."""

    def __init__(self) -> None:
        self._found: dict[FunctionReference, FoundFunction] = {}
        self._failed: dict[FunctionReference | str, BaseException] = {}
        self._sources = Sources()

    def warm(self, reference: FunctionReference) -> bool:
        """Find a function before it is needed; return False when that fails, and let ``find`` raise it.

        A module whose import failed is not imported a second time by that ``find``: what it printed is printed once.
        """
        try:
            self.find(reference)
        except BaseException as error:  # noqa: BLE001 - ``find`` raises it
            if not isinstance(error, SourceChangedError) and _place(reference) not in sys.modules:
                self._failed[_place(reference)] = error
            return False
        return True

    def find(self, reference: FunctionReference) -> FoundFunction:
        """Return the function that *reference* names; imports its module the first time.

        Raises:
            SourceChangedError: the code here is not the code that was fingerprinted.
            FunctionNotFoundError: the module has no such function, or another module has its name.
            BaseException: whatever the user's module raises while it is imported.
        """
        found = self._found.get(reference)
        if found is not None:
            if found.unread:
                self._sources.verify(found.unread)
            return found
        if self._failed and (failed := self._failed.pop(_place(reference), None)) is not None:
            raise failed
        if isinstance(reference, PickledFunction):
            found = _described(_unpickled(reference))
        else:
            self._sources.verify(reference.sources)
            function = _attribute(_module(reference), reference)
            # Again: a file edited between the two was imported in one state and hashed in another.
            self._sources.verify(reference.sources)
            found = _described(function, self._sources.remember_imports(reference.sources))
        if len(self._found) >= _MOST_KEPT:
            self._found.clear()
        self._found[reference] = found
        return found


def _place(reference: FunctionReference) -> FunctionReference | str:
    """Return what is loaded to find a function: its module, or what was sent of it."""
    return reference.module if isinstance(reference, ImportedFunction) else reference


def _unpickled(reference: PickledFunction) -> Any:
    import cloudpickle

    with importing(reference.qualname):
        return _plain_function(cloudpickle.loads(reference.payload))


def _module(reference: ImportedFunction) -> ModuleType:
    module = sys.modules.get(reference.module)
    if module is None:
        main = sys.modules.get("__main__")
        if main is not None and _same_file(getattr(main, "__file__", None), reference.file):
            # The script that runs is the module: importing it a second time would run it, and make its classes twice.
            sys.modules[reference.module] = main
            return main
        if reference.root and reference.root not in sys.path:
            sys.path.insert(0, reference.root)
        importlib.invalidate_caches()
        with importing(reference.module), collected_rarely():
            importlib.import_module(reference.module)
        module = sys.modules[reference.module]
    if reference.file and not _same_file(getattr(module, "__file__", None), reference.file):
        raise FunctionNotFoundError(
            f"module {reference.module!r} is {getattr(module, '__file__', None) or 'built in'} here, not "
            f"{reference.file}: two modules have one name. Rename one of them, or put it in a package."
        )
    return module


def _same_file(one: str | None, other: str) -> bool:
    if one is None:
        return False
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _attribute(module: ModuleType, reference: ImportedFunction) -> Any:
    found: Any = module
    for name in reference.qualname.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise FunctionNotFoundError(
                f"{reference.file or reference.module} has no {reference.qualname!r} when it is imported as "
                f"{reference.module!r}: define the step at module level, not below `if __name__ == '__main__':`"
            ) from None
    return _plain_function(found)


def _plain_function(found: Any) -> Any:
    """Return the function behind a step's wrapper (its ``function``), or what was found."""
    if isinstance(found, FunctionType):
        return found
    return getattr(found, "function", found)


def _described(function: Any, unread: tuple[tuple[str, str], ...] = ()) -> FoundFunction:
    if not callable(function):
        raise FunctionNotFoundError(f"a step's function is a {type(function).__name__}, which cannot be called")
    hints = hints_of(function)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return FoundFunction(function, hints, hints.get("return", Any), unread=unread)
    by_kind = {parameter.kind: parameter.name for parameter in parameters}
    star, double_star = by_kind.get(inspect.Parameter.VAR_POSITIONAL), by_kind.get(inspect.Parameter.VAR_KEYWORD)
    wanted = {parameter.name: hints.get(parameter.name, Any) for parameter in parameters}
    if star is not None:
        wanted[star] = tuple.__class_getitem__((wanted[star], ...))
    if double_star is not None:
        wanted[double_star] = dict.__class_getitem__((str, wanted[double_star]))
    # Before *args everything goes by position; otherwise only what must.
    kinds: set[Any] = {inspect.Parameter.POSITIONAL_ONLY}
    if star is not None:
        kinds.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ordered = tuple((parameter.name, parameter.default) for parameter in parameters if parameter.kind in kinds)
    sessions = session_parameters(parameters)
    return FoundFunction(function, wanted, hints.get("return", Any), ordered, star, double_star, unread, sessions)
