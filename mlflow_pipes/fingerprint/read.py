"""Follows names through modules that are only read: imports inside functions, and what those reach in turn."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.fingerprint.names import Origin
from mlflow_pipes.fingerprint.normalise import bound_name
from mlflow_pipes.fingerprint.reach import External, Found, Value
from mlflow_pipes.fingerprint.scopes import ReadScope, Scope, absolute_name

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker
    from mlflow_pipes.fingerprint.source import Source


def full_name(scope: Scope, origin: Origin) -> str:
    """Return the full name of the module that an import names."""
    return absolute_name(origin.module, origin.level, scope.package)


def import_of(source: Source | None, name: str) -> Origin | None:
    """Return the import that alone binds a module-level name; None when something else does."""
    statements = source.bindings.get(name, ()) if source is not None else ()
    if len(statements) != 1:
        return None
    statement = statements[0]
    if not isinstance(statement, (ast.Import, ast.ImportFrom)):
        return None
    return origins(statement)[name]


def possible_imports(source: Source | None, name: str) -> list[Origin]:
    """Return the imports that may have bound a module-level name: the one that does, or each ``import *``."""
    if source is None:
        return []
    if name not in source.bindings:
        return [Origin(star.module or "", star.level, name) for star in reversed(source.star_imports)]
    origin = import_of(source, name)
    return [] if origin is None else [origin]


def origins(statement: ast.Import | ast.ImportFrom) -> dict[str, Origin]:
    """Return what an import statement imports, by the name it binds."""
    found = {}
    for alias in statement.names:
        name = bound_name(statement, alias)
        if isinstance(statement, ast.ImportFrom):
            found[name] = Origin(statement.module or "", statement.level, alias.name)
        else:
            found[name] = Origin(alias.name if alias.asname else name)
    return found


def imported(linker: Linker, scope: Scope, origin: Origin, attributes: tuple[str, ...]) -> Found:
    """Return what an import inside code gives, and how many of the attributes that used up."""
    name = full_name(scope, origin)
    if origin.attribute is None:
        return module(linker, scope, name, attributes)
    target, consumed = module(linker, scope, name, (origin.attribute, *attributes))
    return target, max(consumed - 1, 0)


def module(linker: Linker, scope: Scope, name: str, attributes: tuple[str, ...]) -> Found:
    """Return what an attribute chain on a module stands for, by reading the module."""
    located = linker.territory.locate(name, scope.folder)
    if located is None:
        return Value("missing", name, ("missing", name)), 0
    if isinstance(located, External):
        if attributes:
            located = External(located.distribution, located.version, f"{name}:{attributes[0]}")
        return located, 1 if attributes else 0
    inner = _scope(linker, scope, name, located)
    if attributes:
        target, consumed = _attribute_of(linker, scope, name, inner, attributes)
        return target, consumed + 1
    if inner is None:
        if Path(located).is_file():
            return linker.read_file(located), 0
        return Value("module", name, ("namespace",)), 0
    return linker.read_module(inner), 0


def _attribute_of(
    linker: Linker, near: Scope, name: str, inner: ReadScope | None, attributes: tuple[str, ...]
) -> Found:
    first, rest = attributes[0], attributes[1:]
    if inner is None or (first not in inner.source.bindings and inner.source.file.endswith("/__init__.py")):
        if linker.territory.locate(f"{name}.{first}", near.folder) is not None:
            return module(linker, near, f"{name}.{first}", rest)
        if inner is None:
            return Value("missing", first, ("missing", first)), 0
    return name_in(linker, inner, first, rest)


def _scope(linker: Linker, near: Scope, name: str, located: str) -> ReadScope | None:
    if not located.endswith((".py", ".pyw")):
        return None
    return ReadScope(linker.source(located), name, near.folder)


def name_in(linker: Linker, scope: ReadScope, name: str, attributes: tuple[str, ...]) -> Found:
    """Return what a name of a module that is only read stands for; None for a built-in."""
    if name not in scope.source.bindings:
        return _unbound(linker, scope, name, attributes)
    origin = import_of(scope.source, name)
    if origin is not None:
        return imported(linker, scope, origin, attributes)
    return linker.read_definition(scope, name), 0


def _unbound(linker: Linker, scope: ReadScope, name: str, attributes: tuple[str, ...]) -> Found:
    for origin in possible_imports(scope.source, name):
        target, consumed = imported(linker, scope, origin, attributes)
        if not (isinstance(target, Value) and target.kind == "missing"):
            return target, consumed
    if hasattr(builtins, name):
        return None, 0
    if "__getattr__" in scope.source.bindings:
        target, _ = name_in(linker, scope, "__getattr__", ())
        return Value("", name, ("lazy", name), () if target is None else (target,)), 0
    return Value("missing", name, ("missing", name)), 0
