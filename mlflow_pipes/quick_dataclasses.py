"""``dataclass`` for immutable records with slots, the methods of which are compiled when first needed (ADR 22).

The standard one compiles six methods a class when it is made, a millisecond of CPU time. A run imports a hundred such
classes, each of its workers half of them, and few are ever compared or shown. To type checkers this is the standard
one, and its records are to :mod:`dataclasses` what the standard one's are: fields, ``replace``, ``asdict``, pattern
matching, pickling. Making one takes half the time. A class of any other kind is the standard library's.

Not as there: what inherits from such a class must be one, too; what ``inspect`` tells of its constructor, and that a
field without a default follows one with, are known after the first record is made. So classes that users make records
of are the standard library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **parameters: bool) -> type | Callable[[type], type]:
        """Make a class a dataclass; the methods of frozen ones with slots are compiled when they are needed."""
        if cls is not None:
            return dataclasses.dataclass(cls)
        return _made if parameters == _OF_A_RECORD else dataclasses.dataclass(**parameters)


_OF_A_RECORD = {"frozen": True, "slots": True}


def _made(cls: Any) -> Any:
    own = vars(cls)
    shown, equal, init = "__repr__" not in own, "__eq__" not in own, "__init__" not in own
    hashed = own.get("__hash__") is None  # so it is, too, in a class with an __eq__ of its own
    kept = "__getstate__" not in own
    if not cls.__doc__:  # else its signature is made, which costs as much as all else
        cls.__doc__ = cls.__name__
    cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    fields = dataclasses.fields(cls)
    if cls.__match_args__ != tuple([one.name for one in fields if one.init]):  # the constructor's, by place
        raise TypeError(f"{cls.__qualname__} has keyword-only or init-only fields: make it a standard dataclass")
    if init:
        cls.__init__ = _compiled_when_called(cls)
    if shown:
        cls.__repr__ = _repr
    if equal:
        cls.__eq__ = _equality(_values_of([one.name for one in fields if one.compare]))
    if hashed:
        in_hash = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
        cls.__hash__ = _hash(_values_of(in_hash))
    if kept:
        cls.__getstate__, cls.__setstate__ = _state, _set_state
    cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
    return cls


def _compiled_when_called(cls: Any) -> Callable[..., None]:
    def __init__(self: object, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - errors of calls name it
        cls.__init__ = compiled = _init(cls)
        compiled(self, *args, **kwargs)

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _init(cls: Any) -> Callable[..., None]:
    """Return the constructor: it writes into the slots themselves, past what refuses to."""
    known: dict[str, Any] = {"_missing": MISSING}
    parameters, body = [], []
    for one in dataclasses.fields(cls):
        name = one.name
        known[f"_set_{name}"] = getattr(cls, name).__set__
        value = name
        if one.default is not MISSING:
            known[f"_default_{name}"] = one.default
            default = f"_default_{name}"
        elif one.default_factory is not MISSING:
            known[f"_make_{name}"] = one.default_factory
            default, value = "_missing", f"_make_{name}() if {name} is _missing else {name}"
        else:
            default = ""
        if one.init:
            parameters.append(f"{name}={default}" if default else name)
        elif default:
            value = default if one.default is not MISSING else f"_make_{name}()"
        else:
            continue
        body.append(f" _set_{name}(_self, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" _self.__post_init__()")
    text = f"def __init__({', '.join(['_self', *parameters])}):\n" + ("\n".join(body) or " pass")
    exec(compile(text, f"<record {cls.__qualname__}>", "exec"), known)  # noqa: S102 - as dataclasses do
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _values_of(names: list[str]) -> Callable[[Any], Any]:
    """Return what gives a record's values as a tuple: as such a NaN, or an array, is equal to itself."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple([getattr(record, name) for name in names])


def _equality(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807 - what it becomes
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807 - what it becomes
        return hash(values(self))

    return __hash__


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


def _refuse_to_set(_: object, name: str, value: object) -> None:
    del value
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
