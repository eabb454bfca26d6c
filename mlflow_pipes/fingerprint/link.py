"""Follows names: from a name or a live object to what stands for it in a fingerprint."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Mapping
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
from typing import Any, NamedTuple

from mlflow_pipes.digests import Part
from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint import definitions, dynamic, read
from mlflow_pipes.fingerprint.names import Names, Use
from mlflow_pipes.fingerprint.project import OWN_PACKAGES, top_level
from mlflow_pipes.fingerprint.reach import Node, Target, Value
from mlflow_pipes.fingerprint.scopes import LiveScope, ReadScope, Scope, Territory, file_of_function, python
from mlflow_pipes.fingerprint.source import Source, source_cell, source_file
from mlflow_pipes.fingerprint.values import UnencodableError, encode

_MODULE_ATTRIBUTES = frozenset(
    {"__name__", "__file__", "__package__", "__spec__", "__loader__", "__builtins__", "__path__", "__cached__"}
)
_BUILTINS = vars(builtins)
_DESCRIPTORS = (WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType)
_MISSING = object()

Found = tuple[Target | None, int]


class Place(NamedTuple):
    """Where a value was found: what to call it, and what stands for it when it has no encoding."""

    kind: str
    name: str
    scope: Scope
    otherwise: Callable[[], Target] | None = None


class Linker:
    """Gives the targets of one fingerprint; each definition becomes one node, however often it is reached.

    Args:
        territory: what counts by code and what by version.
        root: the step's function; its own annotations count.
        vouched: the user gave ``uses`` or ``version``, which speak for values that have no encoding: those become
            warnings instead of errors.

    Attributes:
        files: hash of each first-party file read, by absolute path.
        warnings: what could not be followed.
    """

    def __init__(self, territory: Territory, *, root: object = None, vouched: bool = False) -> None:
        self.territory = territory
        self._root = root
        self.vouched = vouched
        self.files: dict[str, str] = {}
        self.warnings: dict[str, None] = {}
        self._nodes: dict[tuple[Any, ...], Node] = {}
        self._sources: dict[str, Source] = {}
        self._scopes: dict[int, LiveScope] = {}
        self._alive: list[object] = []  # nodes are found by id(): their objects must not go away

    def is_root(self, function: object) -> bool:
        """Whether this is the step's own function."""
        return function is self._root

    # -- sources --------------------------------------------------------------------------------------------

    def source(self, file: str) -> Source:
        """Return a parsed first-party file, and remember that it was read."""
        source = self._sources.get(file)
        if source is None:
            source = self._sources[file] = source_file(file)
            self.files[file] = source.hash
        return source

    def node(self, key: tuple[Any, ...], make: Callable[[], Node], *alive: object) -> Node:
        """Return the one node of *key*; *alive* are objects whose id is in the key."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = make()
            self._alive.extend(alive)
        return node

    def scope_of_module(self, module: ModuleType) -> LiveScope:
        """Return the scope of a loaded first-party module's top level."""
        known = self._scopes.get(id(module))
        if known is None:
            variables = vars(module)
            known = self._scopes[id(module)] = LiveScope(variables, self.source_of_module(variables))
        return known

    def source_of_module(self, variables: Any) -> Source | None:
        """Return the source of the module with these globals, None for a notebook or an extension module."""
        file = variables.get("__file__")
        if not isinstance(file, str) or not file.endswith((".py", ".pyw")) or not self.territory.is_ours(file):
            return None
        return self.source(os.path.abspath(file))

    def warn(self, text: str) -> None:
        """Remember something that was let through, once."""
        self.warnings[text] = None

    # -- names ----------------------------------------------------------------------------------------------

    def follow(
        self, edges: dict[str, Target], scope: Scope, names: Names, prefix: str = "", *, quiet: bool = False
    ) -> None:
        """Add an edge for each outside name; *quiet* lets names that are not there pass (annotations)."""
        for use in names.uses:
            target, consumed = self.lookup(scope, use, quiet=quiet)
            if target is not None:
                edges[prefix + ".".join((use.label, *use.attributes[:consumed]))] = target
        for access in names.dynamic:
            dynamic.check(self, scope, access, edges, prefix)

    def lookup(self, scope: Scope, use: Use, *, quiet: bool = False) -> Found:
        """Return what a name stands for and how many of its attributes that used up; None for a built-in."""
        if use.origin is not None:
            return read.imported(self, scope, use.origin, use.attributes)
        if isinstance(scope, ReadScope):
            return read.name_in(self, scope, use.name, use.attributes)
        value = scope.closure.get(use.name, _MISSING)
        if value is not _MISSING:
            return self._attributes(value, use, Place("closure", f"{scope.owner}.{use.name}", scope))
        value = scope.variables.get(use.name, _MISSING)
        if value is _MISSING:
            return (None if use.name in _BUILTINS else self._absent(scope, use, quiet=quiet)), 0
        if use.name in _MODULE_ATTRIBUTES:
            return Value("", use.name, ("module-attribute", use.name)), 0
        if value is _BUILTINS.get(use.name, _MISSING):
            return None, 0
        return self._attributes(value, use, self._home(scope, use.name))

    def _attributes(self, value: Any, use: Use, place: Place) -> Found:
        if isinstance(value, ModuleType):
            return self.module(value, use.attributes)
        return self.value(value, place), 0

    def _absent(self, scope: LiveScope, use: Use, *, quiet: bool) -> Target:
        if scope.nested and not quiet and not self.vouched:
            raise FingerprintError(
                f"{scope.owner} uses {use.name!r} of the function around it, whose value is not known. "
                "Pass it as an argument, or speak for it with uses=[...] or version='1'."
            )
        if not quiet:
            self.warn(
                f"{self.where(scope, use.line)}: {scope.owner or scope.module} uses {use.name!r}, which is not defined "
                "now; what it will be is not in the key. Define it first, or name it with uses=[...]."
            )
        return Value("missing", use.name, ("missing", use.name))

    def where(self, scope: Scope, line: int) -> str:
        """Return ``folder/file.py:12`` for messages, relative to the project."""
        if scope.source is None:
            return scope.module
        file = Path(scope.source.file)
        inside = scope.root and file.is_relative_to(scope.root)
        return f"{file.relative_to(scope.root) if inside else file.name}:{line}"

    def _home(self, scope: LiveScope, name: str) -> Place:
        """Return where a module-level name comes from, through first-party ``from x import y``."""
        for _ in range(50):
            origin = read.import_of(scope.source, name)
            if origin is None or origin.attribute is None:
                break
            module = sys.modules.get(read.full_name(scope, origin))
            if module is None or self.territory.counts_by_version(module.__name__):
                break
            if vars(module).get(origin.attribute, _MISSING) is not scope.variables.get(name):
                break
            scope, name = self.scope_of_module(module), origin.attribute
        place = Place("constant", f"{scope.module}.{name}", scope)
        if scope.source is None or name not in scope.source.bindings:
            return place
        return place._replace(otherwise=partial(self.binding, scope, name))

    # -- targets --------------------------------------------------------------------------------------------

    def value(self, value: Any, place: Place) -> Target:
        """Return what stands for a live object.

        Raises:
            FingerprintError: it has no canonical encoding, nor anything else that could stand for it.
        """
        if is_output_of_step(value):
            raise FingerprintError(
                f"{place.kind} {place.name} is the output of a step, which does not exist until that step has run. "
                "Give the step that uses it a parameter, and pass the output as an argument."
            )
        known = self.definition(value)
        if known is not None:
            return known
        references: list[Target] = []

        def refer(item: Any) -> Part | None:
            target = self.definition(item)
            if target is None:
                return None
            references.append(target)
            return ("at", len(references) - 1)

        try:
            root, module = place.scope.root, str(place.scope.module)
            own_name = str(place.scope.variables.get("__name__")) if isinstance(place.scope, LiveScope) else module
            part = encode(value, refer, root=root, module=own_name, is_ours=self._is_our_class)
        except UnencodableError as error:
            if place.otherwise is not None:
                return place.otherwise()
            return self._refuse(place, error)
        return Value(place.kind, place.name, part, tuple(references))

    def _refuse(self, place: Place, error: UnencodableError) -> Target:
        variable = place.name.rpartition(".")[2]
        what = f"{place.kind} {variable!r} ({place.name})"
        held = f"holds {error.type_name} at {variable}{error.path}" if error.path else f"is {error.type_name}"
        if self.vouched:
            self.warn(f"{what} {held}, which is not in the key; uses= or version= speaks for it.")
            return Value(place.kind, place.name, ("vouched", error.type_name))
        raise FingerprintError(
            f"{what} {held}, which cannot be fingerprinted. Make it inside the function or pass it as an argument; or "
            f"say what it depends on with uses=[...], or speak for it with version='1'."
        )

    def _is_our_class(self, cls: type) -> bool:
        return not self.territory.counts_by_version(cls.__module__)

    def definition(self, value: Any) -> Target | None:
        """Return what stands for a function, class, module or other importable object; None for plain values."""
        if is_output_of_step(value):
            raise UnencodableError("the output of a step")
        if isinstance(value, FunctionType):
            return self.function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return self.module(value, ())[0]
        if isinstance(value, BuiltinFunctionType):
            return self._builtin(value)
        if isinstance(value, _DESCRIPTORS):
            return self._member(value.__objclass__, value.__name__)
        function = step_function(value)
        if function is not None:
            return self.value(function, Place("constant", "step", LiveScope({}, None)))
        return self._wrapper(value)

    def _member(self, cls: type, name: str) -> Target:
        external = self.territory.external(cls.__module__, f"{cls.__qualname__}.{name}")
        return external or Value("", name, ("member", name), (self._class(cls),))

    def _builtin(self, value: BuiltinFunctionType) -> Target | None:
        if value.__self__ is not None and not isinstance(value.__self__, ModuleType):
            return None
        module = value.__module__ or "builtins"
        return self.territory.external(module, value.__qualname__) or self._extension(module)

    def _extension(self, module: str) -> Target:
        """Return what stands for a first-party module without Python source: its file's bytes."""
        file = vars(sys.modules[module]).get("__file__") if module in sys.modules else None
        if not isinstance(file, str):
            return Value("module", module, ("module", module))
        return definitions.file_value(self, Path(file).absolute())

    def _wrapper(self, value: Any) -> Target | None:
        """Return what stands for an object of someone else's class that wraps a function, or that has a name there."""
        cls = type(value)
        if not self.territory.counts_by_version(cls.__module__) or not callable(value):
            return None
        attributes = getattr(value, "__dict__", None)
        wrapped = attributes.get("__wrapped__") if isinstance(attributes, dict) else None
        if isinstance(wrapped, FunctionType):
            return Value("", cls.__qualname__, ("wrapped", 2), (self._class(cls), self.function(wrapped)))
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(name, str) or not self.territory.counts_by_version(module):
            return None
        found: Any = sys.modules.get(module)
        for attribute in name.split("."):
            found = getattr(found, attribute, None)
        return self.territory.external(module, name) if found is value else None

    def function(self, function: FunctionType) -> Target:
        """Return the node of a first-party function, or what stands for somebody else's."""
        node = self._nodes.get(("function", id(function)))
        if node is not None:
            return node
        file = file_of_function(function)
        module = str(function.__globals__.get("__name__", ""))
        if file is None and self.territory.counts_by_version(module):
            return self._foreign(function, module)
        if file is not None and not self.territory.is_ours(file):
            return self._foreign(function, module)
        source = self.source(file) if file is not None else source_cell(function.__code__.co_filename)
        scope = LiveScope(function.__globals__, source)
        name = f"{scope.module}.{function.__code__.co_qualname}"
        link = partial(definitions.link_function, self, function, source)
        return self.node(("function", id(function)), lambda: Node("function", name, link), function)

    def _foreign(self, function: FunctionType, module: str) -> Target:
        """Return what stands for a function of a distribution, with the first-party functions that it wraps."""
        name = function.__code__.co_qualname
        external = self.territory.external(module, name) or python(f"{module}:{name}")
        inner: list[Any] = [function.__dict__.get("__wrapped__")]
        registry = function.__dict__.get("registry")  # functools.singledispatch
        if isinstance(registry, Mapping):
            inner.extend(registry.values())
        inner.extend(cell_contents(function).values())
        ours = [item for item in inner if isinstance(item, (FunctionType, type)) and self._is_ours(item)]
        if not ours:
            return external
        targets = {id(item): self.definition(item) for item in ours}
        references = tuple(target for target in targets.values() if target is not None)
        return Value("", name, ("wrapper", len(references)), (external, *references))

    def _is_ours(self, item: FunctionType | type) -> bool:
        module = item.__globals__.get("__name__") if isinstance(item, FunctionType) else item.__module__
        return not self.territory.counts_by_version(str(module))

    def _class(self, cls: type) -> Target:
        external = self.territory.external(cls.__module__, cls.__qualname__)
        if external is not None:
            return external
        module = sys.modules.get(cls.__module__)
        variables = vars(module) if module is not None else {"__name__": cls.__module__}
        scope = LiveScope(variables, self.source_of_module(variables))
        name = f"{scope.module}.{cls.__qualname__}"
        link = partial(definitions.link_class, self, cls, scope)
        return self.node(("class", id(cls)), lambda: Node("class", name, link), cls)

    def module(self, module: ModuleType, attributes: tuple[str, ...]) -> Found:
        """Return what stands for an attribute chain on a module, and how many of the attributes it used up."""
        for consumed, attribute in enumerate(attributes):
            if self.territory.counts_by_version(module.__name__):
                return self._version_of(module, attributes[consumed:]), 0
            variables = vars(module)
            scope = self.scope_of_module(module)
            found = variables.get(attribute, _MISSING)
            if found is _MISSING:
                found = sys.modules.get(f"{module.__name__}.{attribute}", _MISSING)
            if isinstance(found, ModuleType):
                module = found
                continue
            if found is _MISSING:
                return self._absent_attribute(scope, attribute), consumed + 1
            if attribute in _MODULE_ATTRIBUTES:
                return Value("", attribute, ("module-attribute", attribute)), consumed + 1
            return self.value(found, self._home(scope, attribute)), consumed + 1
        if self.territory.counts_by_version(module.__name__):
            return self._version_of(module, ()), len(attributes)
        return self._whole(module), len(attributes)

    def _version_of(self, module: ModuleType, attributes: tuple[str, ...]) -> Target:
        """Return the distribution of a module; in a namespace package the attributes lead to it."""
        for attribute in attributes:
            below = sys.modules.get(f"{module.__name__}.{attribute}")
            if below is None or vars(module).get("__file__"):
                break
            module = below
        found = self.territory.external(module.__name__)
        assert found is not None
        return found

    def _absent_attribute(self, scope: LiveScope, attribute: str) -> Target:
        lazy = scope.variables.get("__getattr__")
        if isinstance(lazy, FunctionType):
            return Value("", attribute, ("lazy", attribute), (self.function(lazy),))
        if scope.source is not None and scope.source.file.endswith("/__init__.py"):
            found, _ = read.module(self, scope, f"{scope.module}.{attribute}", ())
            if found is not None:
                return found
        return Value("missing", attribute, ("missing", attribute))

    def _whole(self, module: ModuleType) -> Target:
        scope = self.scope_of_module(module)
        if scope.source is None:
            return self._extension(module.__name__)
        link = partial(definitions.link_module, self, scope)
        return self.node(("module", id(module)), lambda: Node("module", scope.module, link), module)

    def binding(self, scope: Scope, name: str) -> Target:
        """Return what stands for a module-level name by the code that gives it its value."""
        assert scope.source is not None
        link = partial(definitions.link_binding, self, scope, name)
        key = ("binding", isinstance(scope, LiveScope), scope.source.file, name)
        return self.node(key, lambda: Node("constant", f"{scope.module}.{name}", link))


def cell_contents(function: FunctionType) -> dict[str, Any]:
    """Return a function's free variables by name; those not yet assigned are left out."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


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
