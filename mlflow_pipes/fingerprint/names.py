"""Which outside names a piece of code uses: Python's scoping rules over an AST, nothing is run.

The answer is a list of :class:`Use`: a name that is bound neither in the piece nor by a parameter, with the attributes
read from it (``helpers.clean(x)`` uses ``helpers`` with ``("clean",)``), or one that an import inside the piece binds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import field
from typing import TypeAlias

from mlflow_pipes.fingerprint.normalise import Function, bound_name, meaningful, shows_annotations
from mlflow_pipes.quick_dataclasses import dataclass

_DYNAMIC = frozenset({"getattr", "import_module", "__import__", "eval", "exec", "globals"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Origin:
    """What an import inside code imports: a module, or an attribute of one. *level* counts the leading dots."""

    module: str
    level: int = 0
    attribute: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """A name taken from outside, with the attributes read from it.

    Attributes:
        label: the name as the code says it; for an import inside the code ``name#number``.
        line: where it is first used.
    """

    label: str
    name: str
    attributes: tuple[str, ...] = ()
    origin: Origin | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class DynamicAccess:
    """A call whose target only the running program knows.

    Attributes:
        call: how the code names what it calls (``getattr``, ``importlib.import_module``).
        subject: what ``getattr`` reads from, where that is a name from outside.
        constant: the name it asks for, where that is written there.
    """

    call: Use
    line: int
    subject: Use | None = None
    constant: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """The outside names of a piece of code, sorted, each once."""

    uses: tuple[Use, ...] = ()
    dynamic: tuple[DynamicAccess, ...] = ()


@dataclass(slots=True)
class _Scope:
    kind: str  # function, class, comprehension, outside
    parent: _Scope | None = None
    bound: set[str] = field(default_factory=set)
    imports: dict[str, list[tuple[str, Origin]]] = field(default_factory=dict)
    global_names: set[str] = field(default_factory=set)


_Found: TypeAlias = dict[tuple[str, tuple[str, ...], Origin | None], Use]


def names_of_function(node: Function | ast.Lambda) -> Names:
    """Return the outside names of a function's body (not of its decorators, defaults and annotations)."""
    walk = _Walk()
    walk.function_body(node, _Scope("outside"))
    return walk.names()


def names_of_code(nodes: Iterable[ast.AST | None], *, in_function: bool = False) -> Names:
    """Return the outside names of statements or expressions, as seen from the module that holds them."""
    walk = _Walk()
    scope = _Scope("function" if in_function else "outside")
    for node in nodes:
        if node is not None:
            walk.visit(node, scope)
    return walk.names()


class _Walk:
    def __init__(self) -> None:
        self._found: _Found = {}
        self._dynamic: list[DynamicAccess] = []
        self._imports: dict[str, tuple[str, Origin, int]] = {}

    def names(self) -> Names:
        used = {use.label for use in self._found.values()}
        for label, (name, origin, line) in self._imports.items():
            if label not in used:  # imported for what importing it does
                self._add(Use(label, name, (), origin, line))
        uses = sorted(self._found.values(), key=lambda use: (use.label, use.attributes))
        return Names(tuple(uses), tuple(self._dynamic))

    def _add(self, use: Use) -> None:
        self._found.setdefault((use.label, use.attributes, use.origin), use)

    # -- scopes ---------------------------------------------------------------------------------------------

    def function_body(self, node: Function | ast.Lambda, outer: _Scope) -> None:
        scope = _Scope("function", outer)
        args = node.args
        parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        scope.bound.update(parameter.arg for parameter in parameters if parameter is not None)
        scope.bound.update(parameter.name for parameter in getattr(node, "type_params", ()))
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(meaningful(node.body))
        for child in body:
            self._bind(child, scope)
        for child in body:
            self.visit(child, scope)

    def _bind(self, node: ast.AST, scope: _Scope) -> None:  # noqa: C901 - one case a way of binding
        """Collect the names that a scope binds, without looking into nested scopes."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                scope.bound.add(node.name)
                return
            case ast.Lambda():
                return
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                scope.bound.add(name)
            case ast.Import() | ast.ImportFrom():
                self._bind_import(node, scope)
            case ast.Global(names=names):
                scope.global_names.update(names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                scope.bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                scope.bound.add(name)
            case ast.Nonlocal(names=names):
                scope.bound.difference_update(names)
                return
            case _ if isinstance(node, _COMPREHENSIONS):
                for child in ast.walk(node):
                    if isinstance(child, ast.NamedExpr):
                        scope.bound.add(child.target.id)
                return
        for child in ast.iter_child_nodes(node):
            self._bind(child, scope)

    def _bind_import(self, node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
        if scope.kind == "outside":
            return
        for alias in node.names:
            name = bound_name(node, alias)
            if isinstance(node, ast.ImportFrom):
                origin = Origin(node.module or "", node.level, alias.name)
            else:
                origin = Origin(alias.name if alias.asname else name)
            label = f"{name}#{len(self._imports)}"
            self._imports[label] = (name, origin, node.lineno)
            scope.imports.setdefault(name, []).append((label, origin))
            scope.bound.add(name)

    def _resolve(self, name: str, attributes: tuple[str, ...], line: int, scope: _Scope) -> list[Use]:
        """Return the outside uses that reading *name* in *scope* stands for; none when it is local."""
        current: _Scope | None = scope
        while current is not None:
            if name in current.global_names:
                break
            visible = current.kind != "class" or current is scope
            if visible and name in current.bound:
                imports = current.imports.get(name, ())
                return [Use(label, name, attributes, origin, line) for label, origin in imports]
            current = current.parent
        return [Use(name, name, attributes, None, line)]

    def _use(self, name: str, attributes: tuple[str, ...], line: int, scope: _Scope) -> None:
        for use in self._resolve(name, attributes, line, scope):
            self._add(use)

    # -- the walk -------------------------------------------------------------------------------------------

    def visit(self, node: ast.AST, scope: _Scope) -> None:
        match node:
            case ast.Name():
                if isinstance(node.ctx, ast.Load) or node.id in scope.global_names:
                    self._use(node.id, (), node.lineno, scope)
            case ast.Attribute():
                self._attribute(node, scope)
            case ast.Call():
                self._call(node, scope)
                self._children(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._signature(node, scope)
                self.function_body(node, scope)
            case ast.Lambda():
                self._all([*node.args.defaults, *node.args.kw_defaults], scope)
                self.function_body(node, scope)
            case ast.ClassDef():
                self._class(node, scope)
            case ast.AnnAssign() if scope.kind == "function":
                self._all([node.target, node.value], scope)
            case ast.Import() | ast.ImportFrom():
                pass
            case _ if isinstance(node, _COMPREHENSIONS):
                self._comprehension(node, scope)
            case _:
                self._children(node, scope)

    def _children(self, node: ast.AST, scope: _Scope) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child, scope)

    def _all(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node, scope)

    def _attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        chain: list[str] = []
        current: ast.expr = node
        while isinstance(current, ast.Attribute):
            chain.append(current.attr)
            current = current.value
        if isinstance(current, ast.Name):
            self._use(current.id, tuple(reversed(chain)), node.lineno, scope)
        else:
            self.visit(current, scope)

    def _signature(self, node: Function, scope: _Scope) -> None:
        self._all([*node.decorator_list, *node.args.defaults, *node.args.kw_defaults], scope)
        if shows_annotations(node):
            self._all(annotations_of(node), scope)

    def _class(self, node: ast.ClassDef, scope: _Scope) -> None:
        self._all([*node.decorator_list, *node.bases, *node.keywords], scope)
        inner = _Scope("class", scope)
        for child in meaningful(node.body):
            self.visit(child, inner)  # before binding: in `x = x` the right side is the outside name
            self._bind(child, inner)

    def _comprehension(self, node: ast.AST, scope: _Scope) -> None:
        assert isinstance(node, _COMPREHENSIONS)
        inner = _Scope("comprehension", scope)
        for generator in node.generators:
            self._bind(generator.target, inner)
        first = node.generators[0].iter
        self.visit(first, scope)
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for generator in node.generators:
            self._all([generator.target, *([] if generator.iter is first else [generator.iter])], inner)
            self._all(generator.ifs, inner)
        self._all(elements, inner)

    def _call(self, node: ast.Call, scope: _Scope) -> None:
        called = dotted(node.func)
        if called is None or called[-1] not in _DYNAMIC:
            return
        subject, constant = None, None
        if node.args:
            first = dotted(node.args[0])
            if first is not None:
                subject = next(iter(self._resolve(first[0], first[1:], node.lineno, scope)), None)
            asked = node.args[1] if called[-1] == "getattr" and len(node.args) > 1 else node.args[0]
            if isinstance(asked, ast.Constant) and isinstance(asked.value, str):
                constant = asked.value
        for use in self._resolve(called[0], called[1:], node.lineno, scope):
            self._dynamic.append(DynamicAccess(use, node.lineno, subject, constant))


def annotations_of(node: Function) -> list[ast.AST | None]:
    """Return the annotations of a signature in the order of the parameters, the result's last."""
    args = node.args
    parameters = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [*[parameter.annotation for parameter in parameters if parameter is not None], node.returns]


def dotted(node: ast.AST) -> tuple[str, ...] | None:
    """Return ``("a", "b")`` for the expression ``a.b``, None for anything that is not names and dots."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return (node.id, *reversed(chain))
