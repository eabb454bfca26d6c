"""Which parts an output has, as far as its annotation tells: fields, keys, positions."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
from collections.abc import Mapping
from enum import Enum
from typing import Any, get_args, get_origin

from mlflow_pipes.hints import NoneType, bare, field_hints, is_named_tuple, is_typed_dict, is_union, members
from mlflow_pipes.quick_dataclasses import dataclass


class Kind(Enum):
    """How the parts of a value are taken."""

    UNKNOWN = "unknown"  # any field or item may be there; checked at run time
    OPAQUE = "opaque"  # stored as a whole: has no parts
    RECORD = "record"  # dataclass: fields
    NAMED = "named tuple"  # fields and positions
    TUPLE = "tuple"  # positions, their number is known
    LIST = "list"  # positions, their number is not known
    DICT = "dict"  # keys, not known
    KEYED = "typed dict"  # keys, known


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of a value.

    Attributes:
        parts: hint by field name, key or position, where they are known.
        item: hint of every item where they are not.
    """

    kind: Kind
    parts: Mapping[str | int, Any] = dataclasses.field(default_factory=dict)
    item: Any = Any

    @property
    def names(self) -> list[str]:
        """Known field names and keys."""
        return [name for name in self.parts if isinstance(name, str)]


UNKNOWN = Shape(Kind.UNKNOWN)
OPAQUE = Shape(Kind.OPAQUE)
_SEQUENCES = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def shape_of(hint: Any) -> Shape:
    """Return which parts a value of this annotation has."""
    try:
        return _cached(hint)
    except TypeError:  # unhashable metadata in Annotated
        return _shape(hint)


@functools.lru_cache(maxsize=1024)
def _cached(hint: Any) -> Shape:
    return _shape(hint)


def _shape(hint: Any) -> Shape:  # noqa: PLR0911 - one case a line
    hint = bare(hint)
    if hint is Any:
        return UNKNOWN
    if is_union(hint):
        shapes = [shape_of(member) for member in members(hint) if member is not NoneType]
        if len(shapes) == 1 or all(shape.kind is Kind.OPAQUE for shape in shapes):
            return shapes[0]
        return UNKNOWN
    cls = get_origin(hint) or hint
    arguments = get_args(hint)
    if is_typed_dict(cls):
        return Shape(Kind.KEYED, dict(field_hints(cls).items()))
    if not isinstance(cls, type):
        return UNKNOWN
    if is_named_tuple(cls):
        hints = field_hints(cls)
        return Shape(Kind.NAMED, {name: hints.get(name, Any) for name in cls._fields})  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(cls):
        hints = field_hints(cls)
        return Shape(Kind.RECORD, {field.name: hints.get(field.name, Any) for field in dataclasses.fields(cls)})
    return _container(cls, arguments)


def _container(cls: type, arguments: tuple[Any, ...]) -> Shape:  # noqa: PLR0911 - one case a line
    if cls is tuple:
        if not arguments:
            return Shape(Kind.LIST)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return Shape(Kind.LIST, item=arguments[0])
        return Shape(Kind.TUPLE, dict(enumerate(arguments)))
    if cls in _SEQUENCES:
        return Shape(Kind.LIST, item=arguments[0] if arguments else Any)
    if cls in _MAPPINGS:
        return Shape(Kind.DICT, item=arguments[1] if len(arguments) == 2 else Any)
    if cls in {collections.abc.Iterable, collections.abc.Collection} or getattr(cls, "_is_protocol", False):
        return UNKNOWN
    if issubclass(cls, (list, tuple, dict)):  # a user's subclass: how it is stored is seen at run time
        return UNKNOWN
    return OPAQUE
