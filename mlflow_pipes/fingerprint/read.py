"""Follows names through modules that are only read: imports inside functions, and what those reach in turn."""

from __future__ import annotations

import ast
import builtins
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.fingerprint import definitions
from mlflow_pipes.fingerprint.names import Origin
from mlflow_pipes.fingerprint.normalise import bound_name
from mlflow_pipes.fingerprint.reach import External, Node, Target, Value
from mlflow_pipes.fingerprint.scopes import ReadScope, Scope, absolute_name
from mlflow_pipes.fingerprint.values import UnencodableError, encode

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker
    from mlflow_pipes.fingerprint.source import Source

Found = tuple[Target | None, int]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


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
        if inner is not None and (attributes[0] in inner.source.bindings or not _is_package(located)):
            target, consumed = name_in(linker, inner, attributes[0], attributes[1:])
            return target, consumed + 1
        if linker.territory.locate(f"{name}.{attributes[0]}", scope.folder) is not None:
            target, consumed = module(linker, scope, f"{name}.{attributes[0]}", attributes[1:])
            return target, consumed + 1
        if inner is not None:
            target, consumed = name_in(linker, inner, attributes[0], attributes[1:])
            return target, consumed + 1
        return Value("missing", attributes[0], ("missing", attributes[0])), 1
    if inner is None:
        if Path(located).is_file():
            return definitions.file_value(linker, Path(located)), 0
        return Value("module", name, ("namespace",)), 0
    link = partial(definitions.link_module, linker, inner)
    return linker.node(("read module", located), lambda: Node("module", name, link)), 0


def _is_package(located: str) -> bool:
    path = Path(located)
    return path.name == "__init__.py" or path.is_dir()


def _scope(linker: Linker, near: Scope, name: str, located: str) -> ReadScope | None:
    if not located.endswith((".py", ".pyw")):
        return None
    return ReadScope(linker.source(located), name, near.folder)


def name_in(linker: Linker, scope: ReadScope, name: str, attributes: tuple[str, ...]) -> Found:
    """Return what a name of a module that is only read stands for; None for a built-in."""
    statements = scope.source.bindings.get(name)
    if not statements:
        return _unbound(linker, scope, name, attributes)
    origin = import_of(scope.source, name)
    if origin is not None:
        return imported(linker, scope, origin, attributes)
    if len(statements) == 1:
        node = _defined(linker, scope, name, statements[0])
        if node is not None:
            return node, 0
    return linker.binding(scope, name), 0


def _unbound(linker: Linker, scope: ReadScope, name: str, attributes: tuple[str, ...]) -> Found:
    for statement in scope.source.star_imports:
        inside = Origin(statement.module or "", statement.level, name)
        target, consumed = imported(linker, scope, inside, attributes)
        if not (isinstance(target, Value) and target.kind == "missing"):
            return target, consumed
    if hasattr(builtins, name):
        return None, 0
    if "__getattr__" in scope.source.bindings:
        target, _ = name_in(linker, scope, "__getattr__", ())
        return Value("", name, ("lazy", name), () if target is None else (target,)), 0
    return Value("missing", name, ("missing", name)), 0


def _defined(linker: Linker, scope: ReadScope, name: str, statement: ast.stmt) -> Target | None:
    readable = f"{scope.module}.{name}"
    key = ("read", scope.source.file, name)
    if isinstance(statement, _FUNCTIONS) and statement.name == name:
        link = partial(definitions.link_read_function, linker, scope, statement)
        return linker.node(key, lambda: Node("function", readable, link))
    if isinstance(statement, ast.ClassDef) and statement.name == name:
        link = partial(definitions.link_read_class, linker, scope, statement)
        return linker.node(key, lambda: Node("class", readable, link))
    return _literal(scope, readable, statement)


def _literal(scope: ReadScope, readable: str, statement: ast.stmt) -> Value | None:
    """Return the value of a constant that is written out, the same as it counts in a loaded module."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return None
    if isinstance(statement, ast.Assign) and not all(isinstance(target, ast.Name) for target in statement.targets):
        return None
    try:
        return Value("constant", readable, encode(ast.literal_eval(statement.value), root=scope.root))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, UnencodableError):
        return None
