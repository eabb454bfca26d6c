"""What a function contributes: its normalised code, and edges to what it uses."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import partial
from importlib.machinery import SourceFileLoader
from types import FunctionType
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import Part, digest_record
from mlflow_pipes.fingerprint import read
from mlflow_pipes.fingerprint.bytecode import digest_of_bytecode, names_of_bytecode
from mlflow_pipes.fingerprint.names import Names, annotations_of, dotted, names_of_code
from mlflow_pipes.fingerprint.normalise import Function
from mlflow_pipes.fingerprint.project import OWN_PACKAGES, top_level
from mlflow_pipes.fingerprint.reach import Node, Target
from mlflow_pipes.fingerprint.scopes import LiveScope, Place, ReadScope, Scope, cell_contents
from mlflow_pipes.fingerprint.source import Source

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker


def link_function(linker: Linker, function: FunctionType, source: Source | None, node: Node) -> None:
    """Fill in a live function's node."""
    code = function.__code__
    scope = LiveScope(
        function.__globals__, source, node.name, cell_contents(function), nested="<locals>" in code.co_qualname
    )
    definition = None
    if source is not None:
        definition = source.find(code, compare=source.on_disk and compiled_plainly(function))
    edges: dict[str, Target] = {}
    if "__class__" in code.co_freevars and "__class__" in scope.closure:
        edges["__class__"] = linker.value(scope.closure["__class__"], place_in(node, "closure", "__class__", scope))
    wrapped = function.__dict__.get("__wrapped__")
    if wrapped is not None:
        edges["__wrapped__"] = linker.value(wrapped, place_in(node, "attribute", "__wrapped__", scope))
    if source is None or definition is None:
        linker.follow(edges, scope, names_of_bytecode(code))
        content: Part = ("bytecode", digest_of_bytecode(code))
    else:
        piece = source.piece(definition, "body")
        linker.follow(edges, scope, piece.names)
        content = (
            "source",
            piece.digest,
            *_around(linker, scope, source, definition, edges, root=linker.is_root(function)),
        )
    _live_defaults(linker, function, scope, source, definition, edges, node)
    node.content = digest_record("pipes.function/1", (content,))
    node.edges = edges


def link_read_function(linker: Linker, scope: ReadScope, definition: Function, node: Node) -> None:
    """Fill in the node of a function that was only read."""
    scope = replace(scope, owner=node.name)
    edges: dict[str, Target] = {}
    piece = scope.source.piece(definition, "body")
    linker.follow(edges, scope, piece.names)
    around = _around(linker, scope, scope.source, definition, edges, root=False)
    for parameter, default in _defaults_of(definition).items():
        edges[f"{parameter}="] = _code_of_default(linker, scope, scope.source, default, f"{node.name}.{parameter}")
    node.content = digest_record("pipes.function/1", (("source", piece.digest, *around),))
    node.edges = edges


def place_in(node: Node, kind: str, name: str, scope: Scope, otherwise: Any = None) -> Place:
    """Return the place of something that a definition holds."""
    return Place(kind, f"{node.name}.{name}", scope, otherwise)


def compiled_plainly(function: FunctionType) -> bool:
    """Whether a function's module was compiled from its file as it stands, not rewritten (as pytest does to tests)."""
    loader = function.__globals__.get("__loader__")
    return type(loader) is SourceFileLoader


def _around(
    linker: Linker,
    scope: Scope,
    source: Source,
    definition: Function | ast.Lambda,
    edges: dict[str, Target],
    *,
    root: bool,
) -> tuple[Part, ...]:
    """Return the content of decorators and annotations, and add the edges of what they use."""
    if isinstance(definition, ast.Lambda):
        return ()
    decorators = [item for item in definition.decorator_list if not _is_pipes_decorator(scope, item)]
    parts: list[Part] = []
    for number, decorator in enumerate(decorators):
        piece = source.piece(decorator, "code")
        linker.follow(edges, scope, piece.names, f"@{number} ")
        parts.append(piece.digest)
    if not root and not decorators:
        return tuple(parts)
    annotations: list[Part] = []
    for number, annotation in enumerate(annotations_of(definition)):
        if annotation is None:
            annotations.append(None)
            continue
        piece = source.piece(annotation, "code")
        annotations.append(piece.digest)
        linker.follow(edges, scope, piece.names, f":{number} ", quiet=True)
        linker.follow(edges, scope, _names_in_text(annotation), f":{number} ", quiet=True)
    return (*parts, tuple(annotations))


def _names_in_text(annotation: ast.AST) -> Names:
    """Return the names that string annotations use, such as ``"pd.DataFrame"``."""
    found: list[ast.AST] = []
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                found.append(ast.parse(node.value, mode="eval"))
            except SyntaxError:
                continue
    return names_of_code(found) if found else Names()


def _is_pipes_decorator(scope: Scope, decorator: ast.expr) -> bool:
    """Whether a decorator is ours: ``@step`` and its options are not code."""
    chain = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
    if chain is None:
        return False
    if isinstance(scope, ReadScope):
        origin = read.import_of(scope.source, chain[0])
        return origin is not None and top_level(read.full_name(scope, origin)) in OWN_PACKAGES
    value = scope.closure.get(chain[0], scope.variables.get(chain[0]))
    value = value.func if isinstance(value, partial) else value
    module = value.__name__ if hasattr(value, "__path__") else getattr(value, "__module__", None)
    return isinstance(module, str) and top_level(module) in OWN_PACKAGES


def _defaults_of(definition: Function | ast.Lambda) -> dict[str, ast.expr]:
    args = definition.args
    positional = [*args.posonlyargs, *args.args]
    found = dict(
        zip([item.arg for item in positional[len(positional) - len(args.defaults) :]], args.defaults, strict=True)
    )
    found.update({a.arg: d for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None})
    return found


def _live_defaults(
    linker: Linker,
    function: FunctionType,
    scope: LiveScope,
    source: Source | None,
    definition: Function | ast.Lambda | None,
    edges: dict[str, Target],
    node: Node,
) -> None:
    code, defaults = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    values = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    values.update(function.__kwdefaults__ or {})
    written = {} if definition is None or scope.nested else _defaults_of(definition)
    for parameter, value in values.items():
        otherwise = None
        if source is not None and parameter in written:
            name = f"{node.name}.{parameter}"
            otherwise = partial(_code_of_default, linker, scope, source, written[parameter], name)
        edges[f"{parameter}="] = linker.value(value, place_in(node, "default", parameter, scope, otherwise))


def _code_of_default(linker: Linker, scope: Scope, source: Source, default: ast.expr, name: str) -> Target:
    def link(node: Node) -> None:
        piece = source.piece(default, "code")
        edges: dict[str, Target] = {}
        linker.follow(edges, scope, piece.names)
        node.content, node.edges = piece.digest, edges

    key = ("default", isinstance(scope, LiveScope), id(default))
    return linker.node(key, "default", name, link, default)
