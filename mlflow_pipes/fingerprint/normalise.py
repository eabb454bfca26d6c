"""Source code as bytes that change when its meaning may: an AST without comments, docstrings, positions, formatting.

What is left out, beyond layout: statements that are a bare constant (docstrings, ``...``), annotations that nothing can
see (of local variables, and of the signatures of undecorated functions), and the modules that imports inside
functions name (they stand as references, so that moving a module changes no digest).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, TypeAlias

from blake3 import blake3

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_IN_FUNCTION = True
_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
_SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Module)


_fields_of: dict[type[ast.AST], tuple[str, ...]] = {}


def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    found = _fields_of.get(kind)
    if found is None:
        found = _fields_of[kind] = tuple(name for name in kind._fields if name not in _SKIPPED)
    return found


def shows_annotations(node: Function) -> bool:
    """Whether code can be expected to look at a nested function's annotations: only a decorator can."""
    return bool(node.decorator_list)


def meaningful(body: Iterable[ast.stmt]) -> list[ast.stmt]:
    """Return the statements that do something: all but bare constants."""
    return [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]


def digest_of_code(nodes: Iterable[ast.AST | None], *, in_function: bool) -> str:
    """Return the hash (64 hex digits) of normalised code.

    Args:
        nodes: pieces of syntax, in order; None stands for an absent one.
        in_function: whether the pieces stand in a function's body, where local annotations are not evaluated.
    """
    out: list[str] = []
    for node in nodes:
        _write(node, out, in_function)
    return blake3("".join(out).encode("utf-8", "surrogatepass")).hexdigest()


def _write(value: Any, out: list[str], in_function: bool) -> None:
    """Append *value* in an unambiguous notation: brackets around nodes and lists, ``repr`` for names and constants."""
    if isinstance(value, ast.AST):
        special = _SPECIAL.get(type(value))
        if special is not None:
            special(value, out, in_function)
        else:
            _write_fields(value, _fields(type(value)), out, in_function)
    elif isinstance(value, list):
        out.append(f"[{len(value)}:")
        for item in value:
            _write(item, out, in_function)
        out.append("]")
    elif type(value) is int:
        out.append(hex(value) + ",")  # repr refuses integers above 4,300 digits
    else:
        out.append(repr(value) + ",")


def _write_fields(node: ast.AST, names: Iterable[str], out: list[str], in_function: bool) -> None:
    out.append(type(node).__name__ + "(")
    for name in names:
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, _SCOPES):
            value = meaningful(value or [])
        _write(value, out, in_function)
    out.append(")")


def _function(node: Function, out: list[str], in_function: bool) -> None:
    shown = shows_annotations(node)
    out.append(type(node).__name__ + "(" + repr(node.name))
    _write(node.decorator_list, out, in_function)
    _write(getattr(node, "type_params", []), out, in_function)
    write_parameters(node.args, out, in_function, annotations=shown)
    _write(node.args.defaults, out, in_function)
    _write(node.args.kw_defaults, out, in_function)
    _write(node.returns if shown else None, out, in_function)
    _write(meaningful(node.body), out, _IN_FUNCTION)
    out.append(")")


def _lambda(node: ast.Lambda, out: list[str], in_function: bool) -> None:
    out.append("Lambda(")
    write_parameters(node.args, out, in_function, annotations=False)
    _write(node.args.defaults, out, in_function)
    _write(node.args.kw_defaults, out, in_function)
    _write(node.body, out, _IN_FUNCTION)
    out.append(")")


def _class(node: ast.ClassDef, out: list[str], in_function: bool) -> None:  # noqa: ARG001 - a class body is its own
    _write_fields(node, _fields(ast.ClassDef), out, not _IN_FUNCTION)


def _annotated(node: ast.AnnAssign, out: list[str], in_function: bool) -> None:
    if not in_function:
        _write_fields(node, _fields(ast.AnnAssign), out, in_function)
    elif node.value is None:
        _write_fields(node, ("target",), out, in_function)  # still makes the name local
    else:  # the same as a plain assignment
        out.append("Assign([1:")
        _write(node.target, out, in_function)
        out.append("]")
        _write(node.value, out, in_function)
        out.append(")")


def _import(node: ast.Import | ast.ImportFrom, out: list[str], in_function: bool) -> None:
    if not in_function:
        _write_fields(node, _fields(type(node)), out, in_function)
        return
    out.append("import(")
    out.extend(repr(bound_name(node, alias)) for alias in node.names)
    out.append(")")


def bound_name(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """Return the local name that an import binds."""
    if alias.asname:
        return alias.asname
    return alias.name if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0]


def write_parameters(args: ast.arguments, out: list[str], in_function: bool, *, annotations: bool) -> None:
    """Append the shape of a signature: names, kinds and which have defaults, but not the defaults themselves."""
    for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
        value = getattr(args, kind)
        parameters = value if isinstance(value, list) else [value] if value else []
        out.append(f"{kind}[{len(parameters)}:")
        for parameter in parameters:
            out.append(repr(parameter.arg))
            if annotations:
                _write(parameter.annotation, out, in_function)
        out.append("]")
    required = [default is not None for default in args.kw_defaults]
    out.append(f"{len(args.defaults)};{required}")


def digest_of_body(node: Function | ast.Lambda) -> str:
    """Return the hash of what a function does: signature's shape and body, without name, decorators and defaults."""
    out: list[str] = [type(node).__name__]
    write_parameters(node.args, out, _IN_FUNCTION, annotations=False)
    if isinstance(node, ast.Lambda):
        _write(node.body, out, _IN_FUNCTION)
    else:
        _write(getattr(node, "type_params", []), out, _IN_FUNCTION)
        _write(meaningful(node.body), out, _IN_FUNCTION)
    return blake3("".join(out).encode("utf-8", "surrogatepass")).hexdigest()


_SPECIAL: dict[type[ast.AST], Any] = {
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.Lambda: _lambda,
    ast.ClassDef: _class,
    ast.AnnAssign: _annotated,
    ast.Import: _import,
    ast.ImportFrom: _import,
}
