"""What a class contributes: its whole definition, its bases, and what its attributes came to be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import Part, digest_record
from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint.functions import compiled_plainly, place_in
from mlflow_pipes.fingerprint.reach import Node, Target
from mlflow_pipes.fingerprint.scopes import LiveScope, Place, ReadScope, Scope, cell_contents, file_of_function
from mlflow_pipes.fingerprint.source import source_cell
from mlflow_pipes.fingerprint.stale import stale_attribute

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker

_SCALARS = (int, float, str, bytes, bool, complex, tuple, frozenset, type(None))


def link_class(linker: Linker, cls: type, scope: LiveScope, node: Node) -> None:
    """Fill in a live class's node: its whole definition, bases, and what its attributes came to be."""
    methods = list(_methods(cls))
    closure = {name: value for method in methods for name, value in cell_contents(method).items()}
    closure.pop("__class__", None)
    nested = "<locals>" in cls.__qualname__
    scope = replace(scope, owner=node.name, closure=closure, nested=nested)
    source = scope.source
    known = source.definitions.get(cls.__qualname__, ()) if source is not None else ()
    written = [item for item in known if isinstance(item, ast.ClassDef)]
    if source is None or not written:
        name = cls.__qualname__.partition(".")[0]
        if source is not None and not nested and name in source.bindings:
            node.content, node.edges = (
                "made",
                {name: linker.binding(scope, name)},
            )  # namedtuple("P", ...), Enum("E", ...)
        else:
            _inspect(linker, cls, scope, node)
        return
    edges: dict[str, Target] = {}
    pieces = [source.piece(definition, "code") for definition in written]
    for piece in pieces:
        linker.follow(edges, scope, piece.names)
    _bases(linker, cls, scope, edges, node)
    for method in methods:
        if not method.__code__.co_qualname.startswith(f"{cls.__qualname__}."):
            if not _is_generated(method):
                edges[f".{method.__name__}"] = function_target(linker, method)  # put there from elsewhere
        elif source.on_disk and compiled_plainly(method) and file_of_function(method) == source.file:
            source.find(method.__code__, compare=True)  # raises when it is stale
    for definition in written:
        if len(written) == 1:
            linker.distrust(stale_attribute(cls, definition, source))
        for name, value in _computed_attributes(cls, definition):
            with suppress(FingerprintError):  # the code that makes it is in the class's own
                edges[f".{name}"] = linker.value(value, place_in(node, "attribute", name, scope))
    node.content = digest_record("pipes.class/1", [piece.digest for piece in pieces])
    node.edges = edges


def function_target(linker: Linker, method: FunctionType) -> Target:
    """Return what stands for a function that was made an attribute of a class."""
    return linker.value(method, Place("attribute", method.__name__, LiveScope(method.__globals__, None)))


def _bases(linker: Linker, cls: type, scope: Scope, edges: dict[str, Target], node: Node) -> None:
    for number, base in enumerate(cls.__bases__):
        edges[f"base {number}"] = linker.value(base, place_in(node, "base", base.__name__, scope))
    if type(cls) is not type:
        edges["metaclass"] = linker.value(type(cls), place_in(node, "base", "metaclass", scope))


def link_read_class(linker: Linker, scope: ReadScope, definition: ast.ClassDef, node: Node) -> None:
    """Fill in the node of a class that was only read."""
    edges: dict[str, Target] = {}
    piece = scope.source.piece(definition, "code")
    linker.follow(edges, replace(scope, owner=node.name), piece.names)
    node.content = digest_record("pipes.class/1", (piece.digest,))
    node.edges = edges


def _methods(cls: type) -> Iterable[FunctionType]:
    for value in vars(cls).values():
        inner = [value]
        if isinstance(value, (staticmethod, classmethod)):
            inner = [value.__func__]
        elif isinstance(value, property):
            inner = [value.fget, value.fset, value.fdel]
        else:
            inner.extend(getattr(value, name, None) for name in ("func", "__wrapped__") if not isinstance(value, type))
        yield from (item for item in inner if isinstance(item, FunctionType))


def _computed_attributes(cls: type, definition: ast.ClassDef) -> Iterable[tuple[str, Any]]:
    """Yield the plain attributes of a class whose value its code does not write out."""
    for statement in definition.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if value is None or isinstance(value, ast.Constant):
            continue
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from ((name, vars(cls)[name]) for name in names if type(vars(cls).get(name)) in _SCALARS)


def _inspect(linker: Linker, cls: type, scope: LiveScope, node: Node) -> None:
    """Fill in the node of a class without source (``python -c``, ``type(...)``) by looking at it."""
    edges: dict[str, Target] = {}
    _bases(linker, cls, scope, edges, node)
    skipped = {
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",
    }
    names: list[Part] = []
    for name, value in sorted(vars(cls).items()):
        if name in skipped:
            continue
        names.append(name)
        if type(value).__name__ in {"member_descriptor", "getset_descriptor", "_tuplegetter"}:
            continue
        if isinstance(value, FunctionType) and _is_generated(value):
            continue
        if name == "__annotations__":
            value = {key: item if isinstance(item, str) else repr(item) for key, item in value.items()}  # noqa: PLW2901
        try:
            edges[f".{name}"] = linker.value(value, place_in(node, "attribute", name, scope))
        except FingerprintError:
            if not name.startswith("_"):
                raise
    node.content = digest_record("pipes.class/1", ("inspected", cls.__qualname__, tuple(names)))
    node.edges = edges


def _is_generated(function: FunctionType) -> bool:
    """Whether a method was made by dataclass, namedtuple, attrs and the like from what else the class says."""
    name = function.__code__.co_filename
    if not name.startswith("<") or source_cell(name) is not None:
        return False
    made_by_name = function.__code__.co_qualname.startswith("__create_fn__") or name.startswith("<attrs")
    return made_by_name or function.__globals__.get("__name__") not in sys.modules
