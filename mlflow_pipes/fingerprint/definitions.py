"""What each kind of definition contributes: its normalised code, and edges to what it uses."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from mlflow_pipes.digests import Part, digest_record
from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint import read
from mlflow_pipes.fingerprint.bytecode import digest_of_bytecode, names_of_bytecode
from mlflow_pipes.fingerprint.names import Names, Use, annotations_of, dotted, names_of_code
from mlflow_pipes.fingerprint.normalise import Function
from mlflow_pipes.fingerprint.project import MAIN_NAMES, OWN_PACKAGES, project_root, top_level
from mlflow_pipes.fingerprint.reach import External, Node, Target, Value
from mlflow_pipes.fingerprint.scopes import LiveScope, ReadScope, Scope
from mlflow_pipes.fingerprint.source import Source, source_cell

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCALARS = (int, float, str, bytes, bool, complex, tuple, frozenset, type(None))


# -- functions ------------------------------------------------------------------------------------------------


def link_function(linker: Linker, function: FunctionType, source: Source | None, node: Node) -> None:
    """Fill in a live function's node."""
    from mlflow_pipes.fingerprint.link import cell_contents

    code = function.__code__
    scope = LiveScope(
        function.__globals__, source, node.name, cell_contents(function), nested="<locals>" in code.co_qualname
    )
    definition = None
    if source is not None:
        definition = source.find(code, compare=source.on_disk and _compiled_plainly(function))
    edges: dict[str, Target] = {}
    if "__class__" in code.co_freevars and "__class__" in scope.closure:
        edges["__class__"] = linker.value(scope.closure["__class__"], _place("closure", node, "__class__", scope))
    wrapped = function.__dict__.get("__wrapped__")
    if wrapped is not None:
        edges["__wrapped__"] = linker.value(wrapped, _place("attribute", node, "__wrapped__", scope))
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


def _place(kind: str, node: Node, name: str, scope: Scope, otherwise: Any = None) -> Any:
    from mlflow_pipes.fingerprint.link import Place

    return Place(kind, f"{node.name}.{name}", scope, otherwise)


def _compiled_plainly(function: FunctionType) -> bool:
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
    decorators = [item for item in definition.decorator_list if not _is_pipes_decorator(linker, scope, item)]
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


def _is_pipes_decorator(linker: Linker, scope: Scope, decorator: ast.expr) -> bool:
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
        edges[f"{parameter}="] = linker.value(value, _place("default", node, parameter, scope, otherwise))


def _code_of_default(linker: Linker, scope: Scope, source: Source, default: ast.expr, name: str) -> Target:
    def link(node: Node) -> None:
        piece = source.piece(default, "code")
        edges: dict[str, Target] = {}
        linker.follow(edges, scope, piece.names)
        node.content, node.edges = piece.digest, edges

    return linker.node(
        ("default", isinstance(scope, LiveScope), id(default)), lambda: Node("default", name, link), default
    )


# -- classes --------------------------------------------------------------------------------------------------


def link_class(linker: Linker, cls: type, scope: LiveScope, node: Node) -> None:
    """Fill in a live class's node: its whole definition, bases, and what its attributes came to be."""
    source = scope.source
    methods = list(_methods(cls))
    closure: dict[str, Any] = {}
    for method in methods:
        from mlflow_pipes.fingerprint.link import cell_contents

        closure.update(cell_contents(method))
    closure.pop("__class__", None)
    nested = "<locals>" in cls.__qualname__
    scope = replace(scope, owner=node.name, closure=closure, nested=nested)
    written = (
        [item for item in source.definitions.get(cls.__qualname__, ()) if isinstance(item, ast.ClassDef)]
        if source
        else []
    )
    if source is None or not written:
        name = cls.__qualname__.partition(".")[0]
        if source is not None and not nested and name in source.bindings:
            node.content, node.edges = (
                "made",
                {name: linker.binding(scope, name)},
            )  # namedtuple("P", ...), Enum("E", ...)
        else:
            _inspect_class(linker, cls, scope, node)
        return
    edges: dict[str, Target] = {}
    contents: list[Part] = []
    for definition in written:
        piece = source.piece(definition, "code")
        contents.append(piece.digest)
        linker.follow(edges, scope, piece.names)
    _bases(linker, cls, scope, edges, node)
    for method in methods:
        inside = method.__code__.co_qualname.startswith(f"{cls.__qualname__}.")
        if inside and source.on_disk and method.__code__.co_filename == _filename(methods, source):
            if _compiled_plainly(method):
                source.find(method.__code__, compare=True)
        elif not inside and not _is_generated(method):  # put there from elsewhere
            edges[f".{method.__name__}"] = linker.function(method)
    for name, value in _computed_attributes(cls, written):
        try:
            edges[f".{name}"] = linker.value(value, _place("attribute", node, name, scope))
        except FingerprintError:
            continue  # the code that makes it is in the class's own
    node.content = digest_record("pipes.class/1", contents)
    node.edges = edges


def _filename(methods: Iterable[FunctionType], source: Source) -> str:
    """Return the name by which the methods know the class's file."""
    stem = os.path.basename(source.file)
    return next((m.__code__.co_filename for m in methods if os.path.basename(m.__code__.co_filename) == stem), "")


def _bases(linker: Linker, cls: type, scope: Scope, edges: dict[str, Target], node: Node) -> None:
    for number, base in enumerate(cls.__bases__):
        edges[f"base {number}"] = linker.value(base, _place("base", node, base.__name__, scope))
    if type(cls) is not type:
        edges["metaclass"] = linker.value(type(cls), _place("base", node, "metaclass", scope))


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


def _computed_attributes(cls: type, written: Iterable[ast.ClassDef]) -> Iterable[tuple[str, Any]]:
    """Yield the plain attributes of a class whose value its code does not spell out."""
    for definition in written:
        for statement in definition.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            value = getattr(statement, "value", None)
            for target in targets:
                if isinstance(target, ast.Name) and value is not None and not isinstance(value, ast.Constant):
                    live = vars(cls).get(target.id)
                    if type(live) in _SCALARS:
                        yield target.id, live


def _inspect_class(linker: Linker, cls: type, scope: LiveScope, node: Node) -> None:
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
        if isinstance(value, FunctionType) and cls.__module__ not in MAIN_NAMES and _is_generated(value):
            continue
        if name == "__annotations__":
            value = {key: item if isinstance(item, str) else repr(item) for key, item in value.items()}  # noqa: PLW2901
        try:
            edges[f".{name}"] = linker.value(value, _place("attribute", node, name, scope))
        except FingerprintError:
            if not name.startswith("_"):
                raise
    node.content = digest_record("pipes.class/1", ("inspected", cls.__qualname__, tuple(names)))
    node.edges = edges


def _is_generated(function: FunctionType) -> bool:
    """Whether a method was made by dataclass, namedtuple and the like from what else the class says."""
    name = function.__code__.co_filename
    return name.startswith("<") and source_cell(name) is None


# -- modules, constants, files --------------------------------------------------------------------------------


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
    node.content, node.edges = digest_record("pipes.binding/1", contents), edges


def file_value(linker: Linker, path: Path) -> Value | External:
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
