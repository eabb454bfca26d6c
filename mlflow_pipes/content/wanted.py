"""What a consumer's annotation asks for."""

from __future__ import annotations

import types
from collections import abc
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin

_SEQUENCES = (list, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.Iterator, abc.MutableSequence)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def alternatives(wanted: Any) -> tuple[Any, ...]:
    """Return the classes that an annotation allows: of unions each, of ``Annotated`` and ``NewType`` what is inside.

    >>> alternatives(Annotated[int, "a count"] | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    origin = get_origin(wanted)
    if origin is Annotated:
        return alternatives(get_args(wanted)[0])
    if origin in {Union, types.UnionType}:
        return tuple(found for member in get_args(wanted) for found in alternatives(member))
    if isinstance(wanted, NewType):
        return alternatives(wanted.__supertype__)
    if isinstance(wanted, TypeVar) or wanted is Any:
        return ()
    if type(wanted).__name__ == "TypeAliasType":
        return alternatives(wanted.__value__)
    return (wanted,)


def names(wanted: Any) -> list[tuple[str, str, Any]]:
    """Return (top-level package, class name, class) of each class that an annotation allows."""
    return [
        (kind.__module__.partition(".")[0], kind.__name__, kind)
        for one in alternatives(wanted)
        if isinstance(kind := get_origin(one) or one, type)
    ]


def of_item(wanted: Any, position: int) -> Any:
    """Return the annotation of a list's or tuple's item."""
    for one in alternatives(wanted):
        origin, args = get_origin(one), get_args(one)
        if origin is tuple and args:
            if len(args) == 2 and args[1] is Ellipsis:
                return args[0]
            return args[position] if position < len(args) else Any
        if origin in _SEQUENCES and args:
            return args[0]
    return Any


def of_value(wanted: Any) -> Any:
    """Return the annotation of a dict's values."""
    for one in alternatives(wanted):
        args = get_args(one)
        if get_origin(one) in _MAPPINGS and len(args) == 2:
            return args[1]
    return Any
