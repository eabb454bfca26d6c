"""Source files, parsed once: where a function or class is defined, what binds a name, which names a definition uses."""

from __future__ import annotations

import ast
import linecache
import os
import time
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from blake3 import blake3

from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint.bytecode import first_position, nested_codes, same_code
from mlflow_pipes.fingerprint.names import Names, names_of_code, names_of_function
from mlflow_pipes.fingerprint.normalise import (
    FUNCTIONS,
    Definition,
    Function,
    bound_name,
    digest_of_body,
    digest_of_code,
)
from mlflow_pipes.quick_dataclasses import dataclass

# A file written this shortly before it was read may be written again without its time stamp changing.
_RACY_NS = 50_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of code: the hash of what it says and the outside names it uses."""

    digest: str
    names: Names


@dataclass
class Source:
    """A parsed source file, or a notebook's cell.

    Attributes:
        file: absolute path; for a cell the name that Python knows it by.
        hash: BLAKE3 of the bytes, 64 hex digits.
        on_disk: whether a worker could read it too.
    """

    file: str
    content: bytes
    hash: str
    tree: ast.Module
    on_disk: bool = True
    _pieces: dict[tuple[int, str], Piece] = field(default_factory=dict, repr=False)
    _literals: dict[str, tuple[Any] | None] = field(default_factory=dict, repr=False)

    @cached_property
    def definitions(self) -> dict[str, list[Function | ast.ClassDef]]:
        """Functions and classes by qualified name; more than one where a name is defined again."""
        found: dict[str, list[Function | ast.ClassDef]] = {}
        for qualname, node in _definitions(self.tree.body, ""):
            found.setdefault(qualname, []).append(node)
        return found

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """The module's statements that bind or change each top-level name, in order."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in _statements(self.tree.body):
            for name in _bound_by(statement):
                found.setdefault(name, []).append(statement)
        for nodes in self.definitions.values():
            for node in nodes:
                for name in _rebound_as_global(node):
                    found.setdefault(name, []).append(node)
        return found

    @cached_property
    def star_imports(self) -> list[ast.ImportFrom]:
        """The module's ``from x import *`` statements."""
        found = (node for node in _statements(self.tree.body) if isinstance(node, ast.ImportFrom))
        return [node for node in found if node.names[0].name == "*"]

    @cached_property
    def compiled(self) -> dict[str, list[CodeType]]:
        """The code objects that the source compiles to now, by qualified name."""
        found: dict[str, list[CodeType]] = {}
        for code in nested_codes(compile(self.content, self.file, "exec", dont_inherit=True)):
            found.setdefault(code.co_qualname, []).append(code)
        return found

    @cached_property
    def meaning(self) -> str:
        """The hash of the whole module's normalised code."""
        return self.piece(self.tree, "code").digest

    def binding_digest(self, name: str) -> str:
        """Return the hash of the statements that bind a module-level name."""
        return "".join(self.piece(statement, "code").digest for statement in self.bindings.get(name, ()))

    def literal(self, name: str) -> tuple[Any] | None:
        """Return the value of a module-level name that is bound once, to a value written out; None for others."""
        try:
            return self._literals[name]
        except KeyError:
            found = None if self.star_imports else _literal(self.bindings.get(name, []))
            self._literals[name] = found
            return found

    def piece(self, node: ast.AST | None, role: str) -> Piece:
        """Return digest and names of one of this source's nodes, memoised. *role*: ``body``, ``code``, ``local``."""
        key = (id(node), role)
        known = self._pieces.get(key)
        if known is None:
            if role == "body":
                assert isinstance(node, (*FUNCTIONS, ast.Lambda))
                known = Piece(digest_of_body(node), names_of_function(node))
            else:
                local = role == "local"
                known = Piece(digest_of_code([node], in_function=local), names_of_code([node], in_function=local))
            self._pieces[key] = known
        return known

    def find(self, code: CodeType, *, compare: bool) -> Function | ast.Lambda | None:
        """Return the definition that a function's code object was compiled from; None when it is not in here.

        Args:
            code: of the function.
            compare: whether to check that the source still compiles to this code.

        Raises:
            FingerprintError: the file was edited after the function was made.
        """
        if compare:
            same = [candidate for candidate in self.compiled.get(code.co_qualname, ()) if same_code(candidate, code)]
            if not same:
                raise FingerprintError(_stale(code, self.file))
            code = min(same, key=lambda candidate: abs(candidate.co_firstlineno - code.co_firstlineno))
        if code.co_name == "<lambda>":
            return self._lambda(code)
        nodes = [node for node in self.definitions.get(code.co_qualname, ()) if isinstance(node, FUNCTIONS)]
        exact = [node for node in nodes if first_line(node) == code.co_firstlineno]
        return exact[0] if exact else nodes[0] if len(nodes) == 1 else None

    def _lambda(self, code: CodeType) -> ast.Lambda | None:
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.Lambda)]
        nodes = [node for node in nodes if node.lineno == code.co_firstlineno]
        if len(nodes) > 1:
            place = first_position(code)
            nodes = [node for node in nodes if _start(node.body) <= place < _end(node.body)]
            nodes = sorted(nodes, key=lambda node: _start(node.body))[-1:]  # the innermost
        return nodes[0] if nodes else None


def _literal(statements: list[ast.stmt]) -> tuple[Any] | None:
    if len(statements) != 1:
        return None
    targets: list[ast.expr]
    match statements[0]:
        case ast.Assign(targets=targets, value=value) if all(isinstance(target, ast.Name) for target in targets):
            return literal_of(value)
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            return literal_of(value)
    return None


def literal_of(node: ast.expr) -> tuple[Any] | None:
    """Return the value that an expression writes out, in a tuple; None when it must be computed."""
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _stale(code: CodeType, file: str) -> str:
    return (
        f"{code.co_qualname} in memory differs from its source: {Path(file).name} was edited after it was imported. "
        "Restart the process, or reload the module, so that the code that runs is the code that is fingerprinted."
    )


def _start(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def first_line(node: Definition) -> int:
    """Return the line where a definition starts, its decorators included, as code objects count it."""
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


# -- indexes --------------------------------------------------------------------------------------------------


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for statement in _statements(body):
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            qualname = prefix + statement.name
            yield qualname, statement
            inner = f"{qualname}." if isinstance(statement, ast.ClassDef) else f"{qualname}.<locals>."
            yield from _definitions(statement.body, inner)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of one scope: those inside ``if``, ``for``, ``with``, ``try`` and ``match`` too."""
    for statement in body:
        yield statement
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            continue
        for part in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, part, None) or [])
        for part in ("handlers", "cases"):
            for inner in getattr(statement, part, None) or []:
                yield from _statements(inner.body)


def _bound_by(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {bound_name(statement, alias) for alias in statement.names}
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            roots: list[ast.expr] = targets
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target) | ast.For(target=target):
            roots = [target]
        case ast.AsyncFor(target=target):
            roots = [target]
        case ast.With(items=items) | ast.AsyncWith(items=items):
            roots = [item.optional_vars for item in items if item.optional_vars]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=value))):
            roots = [value]  # NAME.append(...) at the top of the module
        case _:
            roots = []
    found = {name for root in roots for name in _roots(root)}
    if not isinstance(statement, (ast.If, ast.Try, ast.While, ast.Match, ast.For, ast.With)):
        found.update(node.target.id for node in ast.walk(statement) if isinstance(node, ast.NamedExpr))
    return found


def _roots(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Attribute, ast.Subscript, ast.Starred)):
        yield from _roots(target.value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _roots(item)


def _rebound_as_global(node: Function | ast.ClassDef) -> set[str]:
    if isinstance(node, ast.ClassDef):
        return set()
    return {
        name for statement in _statements(node.body) if isinstance(statement, ast.Global) for name in statement.names
    }


# -- reading --------------------------------------------------------------------------------------------------

_sources: dict[str, tuple[tuple[int, int], int, Source]] = {}
_cells: dict[str, tuple[str, Source | None]] = {}


def source_file(file: str) -> Source:
    """Return a parsed source file; parsed again only when its bytes changed.

    Raises:
        FingerprintError: it cannot be read or is not Python.
    """
    path = Path(file)
    try:
        stat = os.stat(file)  # noqa: PTH116 - asked for each file and step; a Path costs more
        stamp = (stat.st_mtime_ns, stat.st_size)
        known = _sources.get(file)
        if known is not None and known[0] == stamp and known[1] - stamp[0] > _RACY_NS:
            return known[2]
        read_at_ns = time.time_ns()
        content = path.read_bytes()
    except OSError as error:
        raise FingerprintError(f"cannot read the source {path.name}: {error.strerror}") from error
    hash_ = blake3(content).hexdigest()
    source = known[2] if known is not None and known[2].hash == hash_ else _parsed(file, content, hash_)
    _sources[file] = (stamp, read_at_ns, source)
    return source


def _parsed(file: str, content: bytes, hash_: str) -> Source:
    try:
        return Source(file, content, hash_, ast.parse(content, file))
    except (SyntaxError, ValueError) as error:
        raise FingerprintError(f"cannot parse the source {Path(file).name}: {error}") from error


def source_cell(name: str) -> Source | None:
    """Return the parsed cell of a notebook or REPL from Python's line cache; None when it is not there."""
    text = "".join(linecache.getlines(name))
    known = _cells.get(name)
    if known is None or known[0] != text:
        try:
            content = text.encode()
            cell = Source(name, content, blake3(content).hexdigest(), ast.parse(content, name), on_disk=False)
        except (SyntaxError, ValueError):
            cell = None
        known = _cells[name] = (text, cell if text else None)
    return known[1]
