"""Follows names: from a name or a live object to what stands for it in a fingerprint."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mlflow_pipes.digests import Part
from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint import dynamic, objects, read
from mlflow_pipes.fingerprint.classes import link_read_class
from mlflow_pipes.fingerprint.functions import link_read_function
from mlflow_pipes.fingerprint.modules import file_value, link_binding, link_module
from mlflow_pipes.fingerprint.names import Names, Use
from mlflow_pipes.fingerprint.normalise import FUNCTIONS
from mlflow_pipes.fingerprint.project import absolute
from mlflow_pipes.fingerprint.reach import Found, Node, Target, Value
from mlflow_pipes.fingerprint.scopes import LiveScope, Place, ReadScope, Scope, Territory
from mlflow_pipes.fingerprint.source import Source, source_file
from mlflow_pipes.fingerprint.stale import stale_constant
from mlflow_pipes.fingerprint.values import UnencodableError, encode

_MODULE_ATTRIBUTES = frozenset(
    {"__name__", "__file__", "__package__", "__spec__", "__loader__", "__builtins__", "__path__", "__cached__"}
)
_BUILTINS = vars(builtins)
_MISSING = object()


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

    def known(self, key: tuple[Any, ...]) -> Node | None:
        """Return the node of *key* if there is one yet."""
        return self._nodes.get(key)

    def node(
        self, key: tuple[Any, ...], kind: str, name: str, link: Callable[[Node], None], alive: object = None
    ) -> Node:
        """Return the one node of *key*; *alive* is an object whose id is in the key."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(kind, name, link)
            self._alive.append(alive)
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
        return self.source(absolute(file))

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

    def lookup(self, scope: Scope, use: Use, *, quiet: bool = False) -> Found:  # noqa: PLR0911 - in order of scoping
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
        target = self.value(value, place)
        first = use.attributes[0] if use.attributes else ""
        if first and isinstance(value, FunctionType) and first in value.__dict__:  # train.limit = 5
            held = self.value(value.__dict__[first], Place("attribute", f"{place.name}.{first}", place.scope))
            return Value("", first, ("attribute", first), (target, held)), 1
        return target, 0

    def _absent(self, scope: LiveScope, use: Use, *, quiet: bool) -> Target:
        if quiet:
            return Value("", use.name, ("missing", use.name))
        if scope.nested and not self.vouched:
            raise FingerprintError(
                f"{scope.owner} uses {use.name!r} of the function around it, whose value is not known. "
                "Pass it as an argument, or speak for it with uses=[...] or version='1'."
            )
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
            value = scope.variables.get(name)
            for origin in read.possible_imports(scope.source, name):
                module = sys.modules.get(read.full_name(scope, origin))
                if module is None or origin.attribute is None or self.territory.counts_by_version(module.__name__):
                    continue
                if vars(module).get(origin.attribute, _MISSING) is value:
                    scope, name = self.scope_of_module(module), origin.attribute
                    break
            else:
                break
        place = Place("constant", f"{scope.module}.{name}", scope)
        if scope.source is None or name not in scope.source.bindings:
            return place
        self.distrust(stale_constant(scope, scope.source, name))
        return place._replace(otherwise=partial(self.binding, scope, name))

    def distrust(self, finding: str | None) -> None:
        """Refuse what is not in memory as it is in its file; a warning where the user speaks for it."""
        if finding is None:
            return
        if not self.vouched:
            raise FingerprintError(finding)
        self.warn(finding)

    # -- targets --------------------------------------------------------------------------------------------

    def value(self, value: Any, place: Place) -> Target:
        """Return what stands for a live object.

        Raises:
            FingerprintError: it has no canonical encoding, nor anything else that could stand for it.
        """
        known = objects.of_code(self, value, place)
        if known is not None:
            return known
        references: list[Target] = []

        def refer(item: Any) -> Part | None:
            target = objects.of_code(self, item, place)
            if target is None:
                return None
            references.append(target)
            return ("at", len(references) - 1)

        scope = place.scope
        own_name = str(scope.variables.get("__name__")) if isinstance(scope, LiveScope) else scope.module
        try:
            part = encode(value, refer, root=scope.root, module=own_name, is_ours=self._is_our_class)
        except (UnencodableError, RecursionError) as error:
            if place.otherwise is not None:
                return place.otherwise()
            deep = UnencodableError("nested too deeply")
            return self._refuse(place, error if isinstance(error, UnencodableError) else deep)
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
            return Value("", attribute, ("lazy", attribute), (objects.of_function(self, lazy),))
        if scope.source is not None and scope.source.file.endswith("/__init__.py"):
            found, _ = read.module(self, scope, f"{scope.module}.{attribute}", ())
            if found is not None:
                return found
        return Value("missing", attribute, ("missing", attribute))

    def _whole(self, module: ModuleType) -> Target:
        scope = self.scope_of_module(module)
        if scope.source is None:
            return objects.of_extension(self, module.__name__)
        link = partial(link_module, self, scope)
        return self.node(("module", id(module)), "module", scope.module, link, module)

    def binding(self, scope: Scope, name: str) -> Target:
        """Return what stands for a module-level name by the code that gives it its value."""
        assert scope.source is not None
        link = partial(link_binding, self, scope, name)
        key = ("binding", isinstance(scope, LiveScope), scope.source.file, name)
        return self.node(key, "constant", f"{scope.module}.{name}", link)

    # -- modules that are only read -------------------------------------------------------------------------

    def read_module(self, scope: ReadScope) -> Target:
        """Return what stands for a whole module that is only read."""
        link = partial(link_module, self, scope)
        return self.node(("read module", scope.source.file), "module", scope.module, link)

    def read_file(self, file: str) -> Target:
        """Return what stands for an extension module of the project."""
        return file_value(self, Path(file))

    def read_definition(self, scope: ReadScope, name: str) -> Target:
        """Return what stands for a name of a module that is only read, by the statements that bind it."""
        (statement, *others), key = scope.source.bindings[name], ("read", scope.source.file, name)
        readable = f"{scope.module}.{name}"
        if not others and isinstance(statement, FUNCTIONS):
            return self.node(key, "function", readable, partial(link_read_function, self, scope, statement))
        if not others and isinstance(statement, ast.ClassDef):
            return self.node(key, "class", readable, partial(link_read_class, self, scope, statement))
        literal = scope.source.literal(name)
        if literal is not None:
            return Value("constant", readable, encode(literal[0], root=scope.root))
        return self.binding(scope, name)
