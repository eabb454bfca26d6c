"""What whole modules, module-level names without an encoding, and files contribute."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from mlflow_pipes.digests import Part, digest_record
from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint import read
from mlflow_pipes.fingerprint.names import Names, Use, dotted
from mlflow_pipes.fingerprint.normalise import FUNCTIONS
from mlflow_pipes.fingerprint.project import project_root
from mlflow_pipes.fingerprint.reach import Node, Target, Value
from mlflow_pipes.fingerprint.scopes import LiveScope, Scope

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker

_READERS = ("read", "load", "open", "fetch", "download", "query", "urlopen", "from_file", "from_csv", "connect")


def link_module(linker: Linker, scope: Scope, node: Node) -> None:
    """Fill in the node of a whole module: code that takes the module as an object may use anything in it."""
    assert scope.source is not None
    edges: dict[str, Target] = {}
    piece = scope.source.piece(scope.source.tree, "code")
    linker.follow(edges, scope, piece.names)
    for name, statements in scope.source.bindings.items():
        if not all(isinstance(statement, ast.ImportFrom) for statement in statements) or name == "*":
            continue
        target, _ = linker.lookup(scope, Use(name, name), quiet=True)
        if target is not None:
            edges.setdefault(name, target)
    node.content, node.edges = piece.digest, edges


def link_binding(linker: Linker, scope: Scope, name: str, node: Node) -> None:
    """Fill in the node of a module-level name whose value has no encoding: by the statements that make it."""
    source = scope.source
    assert source is not None
    if isinstance(scope, LiveScope):
        scope = replace(scope, closure={}, nested=False)
    scope = replace(scope, owner=node.name)
    edges: dict[str, Target] = {}
    contents: list[Part] = []
    for number, statement in enumerate(source.bindings[name]):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            target, _ = read.imported(linker, scope, read.origins(statement)[name], ())
            if target is not None:
                edges[f"import {number}"] = target
            contents.append(None)
            continue
        piece = source.piece(statement, "code")
        contents.append(piece.digest)
        names = Names(tuple(use for use in piece.names.uses if use.name != name), piece.names.dynamic)
        linker.follow(edges, scope, names, f"{number} ")
        _warn_of_reading(linker, scope, statement, node)
    node.content, node.edges = digest_record("pipes.binding/1", contents), edges


def _warn_of_reading(linker: Linker, scope: Scope, statement: ast.stmt, node: Node) -> None:
    """Warn when a value that counts by the code that makes it comes from outside: the code stays, the data moves on."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return
    for call in ast.walk(statement):
        name = (dotted(call.func) or ("",))[-1] if isinstance(call, ast.Call) else ""
        if name.startswith(_READERS):
            linker.warn(
                f"{linker.where(scope, statement.lineno)}: {node.name} counts by the code that makes it, not by its "
                f"value: what {name}(...) finds is not in the key. Make it an argument of the step, or a step."
            )


def file_value(linker: Linker, path: Path) -> Value:
    """Return what stands for a file or folder that the code uses: its bytes.

    Raises:
        FingerprintError: it is not there or cannot be read.
    """
    root = project_root(path)
    name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
    try:
        if path.is_dir():
            inner = sorted(item for item in path.rglob("*") if item.is_file() and "__pycache__" not in item.parts)
            entries = tuple((str(item.relative_to(path)), _hash_of(linker, item)) for item in inner)
            return Value("folder", name, ("folder", entries))
        return Value("file", name, ("file", _hash_of(linker, path)))
    except OSError as error:
        raise FingerprintError(f"uses= names {path}, which cannot be read: {error.strerror}") from error


def _hash_of(linker: Linker, path: Path) -> str:
    linker.files[str(path)] = found = blake3(path.read_bytes()).hexdigest()
    return found
