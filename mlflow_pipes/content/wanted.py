"""What a consumer's annotation asks for."""

from __future__ import annotations

from collections import abc
from functools import lru_cache
from typing import Any, get_args, get_origin

from mlflow_pipes.hints import bare, members

_SEQUENCES = (list, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.Iterator, abc.MutableSequence)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def alternatives(wanted: Any) -> tuple[Any, ...]:
    """Return the classes that an annotation allows, each member of a union; none where it says nothing (``Any``).

    >>> alternatives(int | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    try:
        return _alternatives(wanted)
    except TypeError:  # unhashable metadata in Annotated
        return _alternatives.__wrapped__(wanted)


@lru_cache(maxsize=256)  # asked for each item of a collection
def _alternatives(wanted: Any) -> tuple[Any, ...]:
    return tuple(member for member in members(bare(wanted)) if member is not Any)


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
