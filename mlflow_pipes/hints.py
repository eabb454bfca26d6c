"""Type hints as users wrote them: resolved, stripped to what matters, and shown in errors."""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ForwardRef, Literal, NewType, ParamSpec, TypeVar, Union, get_args, get_origin

NoneType = type(None)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations by parameter name (and ``return``); one that cannot be resolved is left out.

    Names imported under ``TYPE_CHECKING`` and classes local to a function cannot be resolved: such a hint is unknown,
    and unknown hints are never a reason for an error.
    """
    function = plain_function(function)
    raw: Mapping[str, Any] = getattr(function, "__annotations__", {})
    return _resolved(raw, getattr(function, "__globals__", {}))


def plain_function(function: Any) -> Any:
    """Return the function inside partials and decorators that keep it as ``__wrapped__``."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            return function


def field_hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a class and its bases; one that cannot be resolved is left out."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # noqa: BLE001 - evaluating a user's annotation may raise anything
        found: dict[str, Any] = {}
        for owner in reversed(cls.__mro__):
            names = getattr(sys.modules.get(owner.__module__), "__dict__", {})
            found.update(_resolved(vars(owner).get("__annotations__", {}), names))
        return found


def _resolved(raw: Mapping[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__=dict(raw)), names, include_extras=True)
    except Exception:  # noqa: BLE001 - see above
        if len(raw) <= 1:
            return {}
    found: dict[str, Any] = {}
    for name, hint in raw.items():
        found.update(_resolved({name: hint}, names))
    return found


def bare(hint: Any) -> Any:
    """Return the hint without ``Annotated``, ``NewType``, aliases and qualifiers; ``Any`` for what says nothing."""
    while True:
        if hint is None:
            return NoneType
        origin = get_origin(hint)
        if origin is Annotated or origin in _QUALIFIERS:
            hint = get_args(hint)[0]
        elif isinstance(hint, NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # `type X = ...` of Python 3.12
            hint = hint.__value__
        elif isinstance(hint, (TypeVar, ParamSpec, ForwardRef, str)) or hint is object:
            return Any
        else:
            return hint


_QUALIFIERS = frozenset({typing.Final, typing.ClassVar, typing.Required, typing.NotRequired})


def is_union(hint: Any) -> bool:
    """Tell ``A | B`` and ``Union[A, B]``."""
    origin = get_origin(hint)
    return origin is Union or origin is types.UnionType


def members(hint: Any) -> Iterator[Any]:
    """Yield the alternatives of a bare hint: those of a union, else itself."""
    if is_union(hint):
        for member in get_args(hint):
            yield from members(bare(member))
    else:
        yield hint


def is_typed_dict(hint: Any) -> bool:
    """Tell a ``TypedDict`` class."""
    return typing.is_typeddict(hint)


def is_named_tuple(cls: Any) -> bool:
    """Tell a class that was made by ``NamedTuple`` or ``namedtuple``."""
    return (
        isinstance(cls, type)
        and issubclass(cls, tuple)
        and isinstance(getattr(cls, "_fields", None), tuple)
        and hasattr(cls, "_make")
    )


def show(hint: Any) -> str:  # noqa: PLR0911 - one case a line
    """Return the hint as a user would write it: ``int | None``, ``pandas.DataFrame``, ``list[Model]``."""
    if hint is Any:
        return "Any"
    if hint is NoneType or hint is None:
        return "None"
    if hint is Ellipsis:
        return "..."
    if is_union(hint):
        return " | ".join(show(member) for member in get_args(hint))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None and arguments and not isinstance(arguments[0], list):
        return f"{show(origin)}[{', '.join(show(argument) for argument in arguments)}]"
    if isinstance(hint, type):
        package = hint.__module__.partition(".")[0]
        local = hint.__qualname__.rpartition("<locals>.")[2]
        return local if package in {"builtins", "__main__", "collections", "typing"} else f"{package}.{local}"
    return str(hint).removeprefix("typing.")
