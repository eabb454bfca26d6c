"""From a live object that is code (function, class, module, step, wrapper) to what stands for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint.classes import link_class
from mlflow_pipes.fingerprint.functions import link_function
from mlflow_pipes.fingerprint.modules import file_value
from mlflow_pipes.fingerprint.project import OWN_PACKAGES, top_level
from mlflow_pipes.fingerprint.reach import Target, Value
from mlflow_pipes.fingerprint.scopes import LiveScope, Place, cell_contents, file_of_function
from mlflow_pipes.fingerprint.source import source_cell

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker

_DESCRIPTORS = (WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType)


def of_code(linker: Linker, value: Any, place: Place) -> Target | None:  # noqa: PLR0911 - one answer a kind
    """Return what stands for a function, class, module or other importable object; None for plain values."""
    if is_output_of_step(value):
        raise FingerprintError(
            f"{place.kind} {place.name} is or holds the output of a step, which does not exist until that step has "
            "run. Give the step that uses it a parameter, and pass the output as an argument."
        )
    if isinstance(value, FunctionType):
        return of_function(linker, value)
    if isinstance(value, type):
        return of_class(linker, value)
    if isinstance(value, ModuleType):
        return linker.module(value, ())[0]
    if isinstance(value, BuiltinFunctionType):
        return _builtin(linker, value)
    if isinstance(value, _DESCRIPTORS):
        return _member(linker, value.__objclass__, value.__name__)
    inner = step_function(value)
    if inner is not None:
        return linker.value(inner, place)
    return _wrapper(linker, value)


def _member(linker: Linker, cls: type, name: str) -> Target:
    external = linker.territory.external(cls.__module__, f"{cls.__qualname__}.{name}")
    return external or Value("", name, ("member", name), (of_class(linker, cls),))


def _builtin(linker: Linker, value: BuiltinFunctionType) -> Target | None:
    if value.__self__ is not None and not isinstance(value.__self__, ModuleType):
        return None
    module = value.__module__ or "builtins"
    return linker.territory.external(module, value.__qualname__) or of_extension(linker, module)


def of_extension(linker: Linker, module: str) -> Target:
    """Return what stands for a first-party module without Python source: its file's bytes."""
    file = vars(sys.modules[module]).get("__file__") if module in sys.modules else None
    if not isinstance(file, str):
        return Value("module", module, ("module", module))
    return file_value(linker, Path(file).absolute())


def _wrapper(linker: Linker, value: Any) -> Target | None:
    """Return what stands for an object of someone else's class that wraps a function, or that has a name there."""
    cls = type(value)
    if not linker.territory.counts_by_version(cls.__module__) or not callable(value):
        return None
    attributes = getattr(value, "__dict__", None)
    wrapped = attributes.get("__wrapped__") if isinstance(attributes, dict) else None
    if isinstance(wrapped, FunctionType):
        return Value("", cls.__qualname__, ("wrapped", 2), (of_class(linker, cls), of_function(linker, wrapped)))
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not linker.territory.counts_by_version(module):
        return None
    found: Any = sys.modules.get(module)
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    return linker.territory.external(module, name) if found is value else None


def of_function(linker: Linker, function: FunctionType) -> Target:
    """Return the node of a first-party function, or what stands for somebody else's."""
    node = linker.known(("function", id(function)))
    if node is not None:
        return node
    file = file_of_function(function)
    module = str(function.__globals__.get("__name__", ""))
    if file is None and linker.territory.counts_by_version(module):
        return _foreign(linker, function, module, file)
    if file is not None and not linker.territory.is_ours(file):
        return _foreign(linker, function, module, file)
    source = linker.source(file) if file is not None else source_cell(function.__code__.co_filename)
    scope = LiveScope(function.__globals__, source)
    name = f"{scope.module}.{function.__code__.co_qualname}"
    link = partial(link_function, linker, function, source)
    return linker.node(("function", id(function)), "function", name, link, function)


def _foreign(linker: Linker, function: FunctionType, module: str, file: str | None) -> Target:
    """Return what stands for a function of a distribution, with the first-party functions that it wraps."""
    name = function.__code__.co_qualname
    external = linker.territory.external(module, name) or linker.territory.installed(module, file or "")
    inner: list[Any] = [function.__dict__.get("__wrapped__")]
    registry = function.__dict__.get("registry")  # functools.singledispatch
    if isinstance(registry, Mapping):
        inner.extend(registry.values())
    inner.extend(cell_contents(function).values())
    ours = [item for item in inner if isinstance(item, (FunctionType, type)) and _is_ours(linker, item)]
    if not ours:
        return external
    unique = {id(item): item for item in ours}.values()
    references = tuple(of_function(linker, i) if isinstance(i, FunctionType) else of_class(linker, i) for i in unique)
    return Value("", name, ("wrapper", len(references)), (external, *references))


def _is_ours(linker: Linker, item: FunctionType | type) -> bool:
    module = item.__globals__.get("__name__") if isinstance(item, FunctionType) else item.__module__
    return not linker.territory.counts_by_version(str(module))


def of_class(linker: Linker, cls: type) -> Target:
    """Return the node of a first-party class, or what stands for somebody else's."""
    external = linker.territory.external(cls.__module__, cls.__qualname__)
    if external is not None:
        return external
    module = sys.modules.get(cls.__module__)
    variables = vars(module) if module is not None else {"__name__": cls.__module__}
    scope = LiveScope(variables, linker.source_of_module(variables))
    name = f"{scope.module}.{cls.__qualname__}"
    link = partial(link_class, linker, cls, scope)
    return linker.node(("class", id(cls)), "class", name, link, cls)


def step_function(value: Any) -> Any:
    """Return the plain function of a step or pipeline, None for anything else."""
    if top_level(type(value).__module__) not in OWN_PACKAGES:
        return None
    try:
        function = object.__getattribute__(value, "__dict__").get("function")  # an OutputRef answers any getattr
    except AttributeError:
        return None
    return function if callable(function) else None


def is_output_of_step(value: Any) -> bool:
    """Whether a value is what a step call returns while a pipeline is declared."""
    cls = type(value)
    return cls.__name__ == "OutputRef" and top_level(cls.__module__) in OWN_PACKAGES
