"""References to outputs that are not there yet: what a step call returns while a pipeline is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, NoReturn

from mlflow_pipes.authoring.declaration import Awaited, Call
from mlflow_pipes.authoring.shapes import Kind, Shape, shape_of
from mlflow_pipes.errors import DeclarationError, GraphError, suggest
from mlflow_pipes.hints import is_named_tuple, show
from mlflow_pipes.model.graph import PathItem


class UnknownFieldError(GraphError, AttributeError):
    """The output has no such field. Also an ``AttributeError``, so ``hasattr`` works as everywhere."""


class OutputRef:
    """The output of a step call, or a part of it, before it is there.

    Fields and items give references to parts (``parts.train``, ``parts["a"]``, ``chunks[3]``); whoever is given one
    depends on that part alone. Named tuples and tuples of known length can be unpacked. Everything else that needs
    the value raises ``GraphError``. References are immutable; copies of one are itself.
    """

    __slots__ = ("_call", "_hint", "_or_failure", "_path")

    _call: Call
    _path: tuple[PathItem, ...]
    _hint: Any
    _or_failure: bool

    def __init__(
        self, call: Call, path: tuple[PathItem, ...] = (), hint: Any = Any, *, or_failure: bool = False
    ) -> None:
        _set_call(self, call)
        _set_path(self, path)
        _set_hint(self, hint)
        _set_or_failure(self, or_failure)

    def __getattr__(self, name: str) -> OutputRef:
        if name.startswith("_"):
            raise AttributeError(f"an OutputRef has no {name!r}")
        shape = shape_of(self._hint)
        if shape.kind is Kind.UNKNOWN:
            return self._part(name, Any)
        if shape.kind in {Kind.RECORD, Kind.NAMED} and name in shape.parts:
            return self._part(name, shape.parts[name])
        raise UnknownFieldError(self._no_part(name, shape, attribute=True))

    def __getitem__(self, item: Any) -> OutputRef:
        if type(item) is not int and type(item) is not str:
            _refuse_item(self, item)
        shape = shape_of(self._hint)
        match shape.kind:
            case Kind.UNKNOWN:
                return self._part(item, Any)
            case Kind.DICT:
                return self._part(item, shape.item)
            case Kind.KEYED if item in shape.parts:
                return self._part(item, shape.parts[item])
            case Kind.LIST if isinstance(item, int):  # from either end; whether it is there shows at run time
                return self._part(item, shape.item)
            case Kind.TUPLE | Kind.NAMED if isinstance(item, int):
                known = list(shape.parts.items())
                if not -len(known) <= item < len(known):
                    raise GraphError(
                        f"{text_of(self)} has {len(known)} items ({show(self._hint)}), so there is no item [{item}]"
                    )
                return self._part(*known[item])
        raise GraphError(self._no_part(item, shape, attribute=False))

    def __iter__(self) -> Iterator[OutputRef]:
        shape = shape_of(self._hint)
        if shape.kind in {Kind.TUPLE, Kind.NAMED}:
            return iter([self._part(name, hint) for name, hint in shape.parts.items()])
        return _refuse(
            self,
            "iterating over it or unpacking it",
            "how many items there are",
            "annotate the step's output as a named tuple or `tuple[A, B]` to unpack it, take items with "
            "`[0]`, or iterate in a step",
        )

    def __len__(self) -> int:
        shape = shape_of(self._hint)
        if shape.kind in {Kind.TUPLE, Kind.NAMED}:
            return len(shape.parts)
        return _refuse(self, "`len()`", "its length", "call `len()` in a step")

    @property
    def after(self) -> Any:
        """``ref.after(*others)``: its step waits until the others' steps have ended well. Returns the reference."""
        shape = shape_of(self._hint)
        if shape.kind in {Kind.RECORD, Kind.NAMED} and "after" in shape.parts:
            return self._part("after", shape.parts["after"])
        return self._wait_for

    def __dir__(self) -> Iterable[str]:
        return [*shape_of(self._hint).names, "after"]

    def __repr__(self) -> str:
        hint = "" if self._hint is Any else f": {show(self._hint)}"
        return f"<output {text_of(self)}{hint}, not there yet>"

    def __copy__(self) -> OutputRef:
        return self

    def __deepcopy__(self, memo: Any) -> OutputRef:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise DeclarationError(
            f"{text_of(self)} is a reference to an output that is not there yet, so it cannot be stored or sent: a step"
            " that returns the calls of further steps is not supported yet. Call the plain function "
            f"(`{self._call.step.name}.function(...)`) inside a step, or call the step in the pipeline function"
        )

    def _part(self, item: PathItem, hint: Any) -> OutputRef:
        return OutputRef(self._call, (*self._path, item), hint, or_failure=self._or_failure)

    def _wait_for(self, *others: Any) -> OutputRef:
        call = self._call
        new = calls_in(others, f"{text_of(self)}.after")
        for other, _ in new:
            if other.declaration is not call.declaration:
                raise GraphError(
                    f"{text_of(self)}.after(...): {other.step.name!r} was called {other.where}, "
                    f"{call.step.name!r} {call.where}; order calls of one pipeline"
                )
        call.after = tuple(dict.fromkeys([*call.after, *new]))
        return self

    def _no_part(self, item: PathItem, shape: Shape, *, attribute: bool) -> str:
        wanted = f".{item}" if attribute else f"[{item!r}]"
        who = f"{text_of(self)} is declared as {show(self._hint)}, which has no {wanted}"
        if shape.kind is Kind.OPAQUE:
            return f"{who} to depend on alone; use it in a step, or return a named tuple or dict"
        if attribute and (shape.kind is Kind.DICT or item in shape.parts):
            return f"{who}; write [{item!r}]"
        if not attribute and item in shape.parts:
            return f"{who}; write .{item}"
        near = suggest(str(item), shape.names)
        known = f" (it has {', '.join(shape.names)})" if shape.names else ""
        return who + near + known


_slots = vars(OutputRef)  # references refuse to be set: their slots are filled through the descriptors
_set_call, _set_path, _set_hint, _set_or_failure = (
    _slots[name].__set__ for name in ("_call", "_path", "_hint", "_or_failure")
)


call_of: Callable[[OutputRef], Call] = attrgetter("_call")
path_of: Callable[[OutputRef], tuple[PathItem, ...]] = attrgetter("_path")
hint_of: Callable[[OutputRef], Any] = attrgetter("_hint")
takes_failure: Callable[[OutputRef], bool] = attrgetter("_or_failure")


def allow_failure(output: Any) -> Any:
    """Return an output, or a nesting of outputs, for a step that can do with the failure of what makes it.

    In the place of an output that could not be made the step is given a ``StepFailure``; of a map over a list, in the
    place of each item whose call failed. Such failures fail neither the run nor the steps beside them. In
    ``.after(allow_failure(...))`` it waits however they end.

    Raises:
        GraphError: there is something else in it.
    """
    if type(output) is OutputRef:
        return OutputRef(call_of(output), path_of(output), hint_of(output), or_failure=True)
    if type(output) is list or type(output) is tuple:
        return type(output)([allow_failure(item) for item in output])
    if type(output) is dict:
        return {key: allow_failure(item) for key, item in output.items()}
    if is_named_tuple(type(output)):
        return type(output)(*map(allow_failure, output))
    raise GraphError(f"allow_failure(...) takes what step calls returned, not {output!r}")


def text_of(ref: OutputRef) -> str:
    """Return the reference as a user would write it: ``split.train``, ``chunks[3]``."""
    parts = [f".{item}" if isinstance(item, str) and item.isidentifier() else f"[{item!r}]" for item in path_of(ref)]
    return "'" + call_of(ref).step.name + "".join(parts) + "'"


def calls_in(value: Any, who: str) -> list[Awaited]:
    """Return the calls behind references in any nesting of lists, tuples and dicts, and whether any end will do.

    Raises:
        GraphError: there is something else in it.
    """
    if type(value) is OutputRef:
        return [Awaited(call_of(value), takes_failure(value))]
    if isinstance(value, (list, tuple)):
        return [call for item in value for call in calls_in(item, who)]
    if isinstance(value, dict):
        return [call for item in value.values() for call in calls_in(item, who)]
    raise GraphError(f"{who} takes what step calls returned, not {value!r}: write `after(load(...))` or `after(ref)`")


def _refuse(ref: OutputRef, tried: str, needs: str, instead: str) -> NoReturn:
    raise GraphError(
        f"{tried} needs {needs}, but {text_of(ref)} is not there yet while the pipeline is declared; {instead}"
    )


def _refuse_item(ref: OutputRef, item: Any) -> NoReturn:
    if type(item) is OutputRef:
        raise GraphError(
            f"{text_of(ref)}[{text_of(item)}]: the index is not there yet while the pipeline is declared; "
            "give both to a step and take the item there"
        )
    raise GraphError(f"{text_of(ref)}[{item!r}]: only one str or int can be taken of an output; do the rest in a step")


_COMPUTE = "compute with it in a step"
_DECIDE = "move the decision into a step"
_USES: dict[str, tuple[str, str, str]] = {
    "__bool__": ("`if`, `and`, `or`, `not` or `bool()`", "a value", _DECIDE),
    "__int__": ("`int()`", "a number", _COMPUTE),
    "__float__": ("`float()`", "a number", _COMPUTE),
    "__complex__": ("`complex()`", "a number", _COMPUTE),
    "__index__": ("`range()` or an index", "a whole number", "loop or index in a step"),
    "__contains__": ("`in`", "a value", _DECIDE),
    "__reversed__": ("`reversed()`", "a value", "iterate in a step"),
    "__hash__": (
        "being a dict key or a set's item",
        "a value to hash",
        "use a list, or a dict with names of your own as keys",
    ),
    "__format__": ("formatting it into a string", "a value", "build the string in a step"),
    "__fspath__": ("using it as a path", "a value", "open the file in a step"),
    "__call__": ("calling it or one of its methods", "a value", "make the call in a step"),
    "__array__": ("making an array of it", "a value", _COMPUTE),
    "__await__": ("`await`", "a value", "a step call already is lazy: remove the `await`"),
    "__aiter__": ("`async for`", "a value", "iterate in a step"),
    "__enter__": ("`with`", "a value", "open it in a step"),
    "__exit__": ("`with`", "a value", "open it in a step"),
    "__aenter__": ("`async with`", "a value", "open it in a step"),
    "__aexit__": ("`async with`", "a value", "open it in a step"),
    "__setitem__": ("setting an item", "a value", "outputs never change; make a new one in a step"),
    "__delitem__": ("deleting an item", "a value", "outputs never change; make a new one in a step"),
    "__setattr__": ("setting a field", "a value", "outputs never change; make a new one in a step"),
    "__delattr__": ("deleting a field", "a value", "outputs never change; make a new one in a step"),
}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_ARITHMETIC = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "divmod": "divmod()", "pow": "**",
    "matmul": "@", "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip
_UNARY = {"neg": "-", "pos": "+", "invert": "~", "abs": "abs()", "round": "round()", "trunc": "trunc()"}
_USES |= {f"__{name}__": (f"`{sign}`", "a value", _DECIDE) for name, sign in _COMPARISONS.items()}
_USES |= {f"__{name}__": (f"`{sign}`", "a number", _COMPUTE) for name, sign in _UNARY.items()}
_USES |= {f"__{side}{name}__": (f"`{sign}`", "a value", _COMPUTE)
          for name, sign in _ARITHMETIC.items() for side in ("", "r", "i") if side + name != "idivmod"}  # fmt: skip


def _refusal(tried: str, needs: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: OutputRef, *_arguments: Any, **_options: Any) -> NoReturn:
        _refuse(self, tried, needs, instead)

    return refuse


for _name, _use in _USES.items():
    setattr(OutputRef, _name, _refusal(*_use))
