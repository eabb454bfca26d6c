"""Values as injective records: what a constant, a default or a closure variable contributes to a fingerprint.

Distinct values have distinct encodings; equal values have equal ones in every process and on every machine. A dict
keeps its order, because code can see it; a set has none and is sorted. What is not known here is refused.
"""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import logging
import operator
import pathlib
import re
import sys
import types
import typing
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

from mlflow_pipes.digests import Part, digest_record, frame

Refer: TypeAlias = Callable[[Any], "Part | None"]

_HUGE = 1 << 4096  # decimal text of larger integers is refused by Python
_REDUCED = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
_FORMS = (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple)
_GENERICS = (types.GenericAlias, types.UnionType, type(typing.List[int]), type(typing.Union[int, str]))  # noqa: UP006, UP007
_PAYLOADS = (dict, list, tuple, set, frozenset, str, int, float, bytes)
_TRANSPARENT = frozenset({object, typing.Generic, typing.Protocol, *_PAYLOADS, collections.OrderedDict})


class UnencodableError(Exception):
    """A value that has no canonical encoding.

    Attributes:
        path: where in the value, such as ``["a"][0].client``.
        type_name: the type that is not known.
    """

    def __init__(self, type_name: str, path: str = "") -> None:
        super().__init__(f"{type_name} at {path or 'the top'}")
        self.type_name = type_name
        self.path = path


def by_qualname(value: Any) -> Part | None:
    """Refer to functions, classes and modules by name alone; for tests and for ordering, never for keys."""
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return ("named", value.__qualname__)
    return ("named", value.__name__) if isinstance(value, types.ModuleType) else None


def digest_of_value(value: Any, refer: Refer = by_qualname) -> str:
    """Return the hash (64 hex digits) of a value.

    Raises:
        UnencodableError: there is no canonical encoding for it or for something in it.
    """
    return digest_record("pipes.value/1", (encode(value, refer),))


def encode(
    value: Any,
    refer: Refer = by_qualname,
    *,
    root: str = "",
    module: str = "",
    is_ours: Callable[[type], bool] = lambda cls: True,  # noqa: ARG005
) -> Part:
    """Return a value as a record to be framed.

    Args:
        value: any value.
        refer: gives the part that stands for a function, class or module; None for what it does not know.
        root: project folder; paths and texts below it count relative to it, so that checkouts agree.
        module: name of the module that holds the value; a logger named so counts as the module's own.
        is_ours: whether a class is first-party, so that its instances are their ``__dict__``.

    Raises:
        UnencodableError: there is no canonical encoding for it or for something in it.
    """
    return _Encoder(refer, root, module, is_ours).walk(value)


class _Encoder:
    def __init__(self, refer: Refer, root: str, module: str, is_ours: Callable[[type], bool]) -> None:
        self.refer = refer
        self.root = root
        self.module = module
        self.is_ours = is_ours
        self._open: set[int] = set()

    def walk(self, value: Any) -> Part:
        known = _EXACT.get(type(value))
        if known is not None:
            return known(self, value)
        referred = self.refer(value)
        if referred is not None:
            return ("reference", referred)
        key = id(value)
        if key in self._open:
            raise UnencodableError(f"{_type_name(value)} that contains itself")
        self._open.add(key)
        try:
            for kinds, encoder in _KINDS:
                if isinstance(value, kinds):
                    return encoder(self, value)
            return self.other(value)
        finally:
            self._open.discard(key)

    def at(self, path: str, value: Any) -> Part:
        try:
            return self.walk(value)
        except UnencodableError as error:
            error.path = path + error.path
            raise

    def text(self, value: str) -> Part:
        if self.root and value.startswith(self.root) and value[len(self.root) : len(self.root) + 1] in {"", "/"}:
            return ("in-project", value[len(self.root) :])
        return value

    def sequence(self, value: Any) -> Part:
        key = id(value)
        if key in self._open:
            raise UnencodableError(f"{_type_name(value)} that contains itself")
        self._open.add(key)
        try:
            return (type(value).__name__, *[self.at(f"[{index}]", item) for index, item in enumerate(value)])
        finally:
            self._open.discard(key)

    def mapping(self, value: Any) -> Part:
        key = id(value)
        if key in self._open:
            raise UnencodableError(f"{_type_name(value)} that contains itself")
        self._open.add(key)
        try:
            items = tuple((self.at(".key", name), self.at(f"[{name!r}]", item)) for name, item in value.items())
            return (type(value).__name__, *items)
        finally:
            self._open.discard(key)

    def unordered(self, value: Any) -> Part:
        """A set in the order of its items' encodings, with references by name: their parts follow from the order."""
        by_name = _Encoder(by_qualname, self.root, self.module, self.is_ours)
        ordered = sorted(value, key=lambda item: frame("order", (by_name.walk(item),)))
        return (type(value).__name__, *[self.at("{...}", item) for item in ordered])

    def record(self, kind: str, value: Any, items: list[tuple[str, Any]]) -> Part:
        encoded = tuple((name, self.at(f".{name}", item)) for name, item in items)
        return (kind, self.walk(type(value)), *encoded)

    def other(self, value: Any) -> Part:
        if is_dataclass(value) and not isinstance(value, type):
            names = [item.name for item in fields(value) if hasattr(value, item.name)]
            return self.record("dataclass", value, [(name, getattr(value, name)) for name in names])
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            encoded = _numpy(self, value, numpy)
            if encoded is not None:
                return encoded
        cls = type(value)
        if not self.is_ours(cls) or not all(self.is_ours(base) or base in _TRANSPARENT for base in cls.__mro__[1:]):
            raise UnencodableError(_type_name(value))
        return self._instance(value)

    def _instance(self, value: Any) -> Part:
        state = dict(getattr(value, "__dict__", {}))
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                mangled = f"_{cls.__name__.lstrip('_')}{name}" if name[:2] == "__" != name[-2:] else name
                if name not in {"__dict__", "__weakref__"} and hasattr(value, mangled):
                    state[mangled] = getattr(value, mangled)
        part = self.record("instance", value, sorted(state.items()))
        payload = next((kind for kind in _PAYLOADS if isinstance(value, kind)), None)
        return part if payload is None else ("extended", part, self.at("", _PAYLOAD_OF[payload](value)))


# The content as the built-in type has it, whatever the methods of the subclass say.
_PAYLOAD_OF: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes(memoryview(value)),
}


def _type_name(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _integer(_: _Encoder, value: int) -> Part:
    return value if -_HUGE < value < _HUGE else ("int", hex(value))


def _timezone(encoder: _Encoder, value: dt.tzinfo | None) -> Part:
    return None if value is None else encoder.walk(value)


def _moment(encoder: _Encoder, value: dt.datetime | dt.time) -> Part:
    zone = value.tzinfo
    return (type(value).__name__, value.replace(tzinfo=None).isoformat(), value.fold, _timezone(encoder, zone))


def _zone(_: _Encoder, value: zoneinfo.ZoneInfo) -> Part:
    if value.key is None:
        raise UnencodableError("zoneinfo.ZoneInfo without a key")
    return ("zoneinfo", value.key)


def _offset(_: _Encoder, value: dt.timezone) -> Part:
    offset = value.utcoffset(None)
    return ("timezone", offset.days, offset.seconds, offset.microseconds, value.tzname(None))


def _path(encoder: _Encoder, value: pathlib.PurePath) -> Part:
    return ("path", type(value).__name__, encoder.text(str(value)))


def _enum(encoder: _Encoder, value: enum.Enum) -> Part:
    if value.name is None or not isinstance(value.name, str) or value.name not in type(value).__members__:
        return ("flags", encoder.walk(type(value)), encoder.walk(value.value))
    return ("enum", encoder.walk(type(value)), value.name)


def _logger(encoder: _Encoder, value: logging.Logger) -> Part:
    own = bool(encoder.module) and value.name == encoder.module
    return ("logger", None if own else value.name)


def _partial(encoder: _Encoder, value: functools.partial[Any]) -> Part:
    keywords = tuple((name, encoder.at(f".{name}", item)) for name, item in value.keywords.items())
    return ("partial", encoder.at(".func", value.func), encoder.at(".args", value.args), keywords)


def _method(encoder: _Encoder, value: types.MethodType) -> Part:
    return ("method", encoder.at(".__func__", value.__func__), encoder.at(".__self__", value.__self__))


def _builtin_method(encoder: _Encoder, value: types.BuiltinMethodType) -> Part:
    return ("builtin-method", value.__name__, encoder.at(".__self__", value.__self__))


def _reduced(encoder: _Encoder, value: Any) -> Part:
    reduced = value.__reduce__()
    arguments = encoder.walk(reduced[1])
    return ("reduced", type(value).__name__, arguments)


def _wrapper(encoder: _Encoder, value: Any) -> Part:
    return (type(value).__name__, encoder.at(".__func__", value.__func__))


def _property(encoder: _Encoder, value: property) -> Part:
    return ("property", *[encoder.at(f".{name}", getattr(value, name)) for name in ("fget", "fset", "fdel")])


def _generic(encoder: _Encoder, value: Any) -> Part:
    origin = typing.get_origin(value)
    if origin is None:
        return ("typing", repr(value))
    if origin is typing.Annotated:
        return ("annotated", encoder.walk(value.__origin__), encoder.walk(tuple(value.__metadata__)))
    arguments = typing.get_args(value)
    if origin in {types.UnionType, typing.Union}:
        return ("union", encoder.walk(arguments))
    return ("generic", encoder.walk(origin), encoder.walk(arguments))


def _type_variable(encoder: _Encoder, value: Any) -> Part:
    bound, constraints = getattr(value, "__bound__", None), getattr(value, "__constraints__", ())
    return (type(value).__name__, value.__name__, repr(value)[:1], encoder.walk(bound), encoder.walk(constraints))


def _numpy(encoder: _Encoder, value: Any, numpy: Any) -> Part | None:
    if isinstance(value, numpy.dtype):
        return ("numpy.dtype", _dtype(value))
    if isinstance(value, numpy.generic):
        if value.dtype.hasobject:
            raise UnencodableError(_type_name(value))
        return ("numpy.scalar", _dtype(value.dtype), value.tobytes())
    if type(value) is numpy.ndarray:
        shape = tuple(int(size) for size in value.shape)
        if value.dtype.hasobject:
            if value.dtype.names:
                raise UnencodableError("numpy.ndarray of structured objects")
            return ("numpy.objects", shape, encoder.walk(value.ravel().tolist()))
        return ("numpy.array", _dtype(value.dtype), shape, value.tobytes())
    return None


def _dtype(value: Any) -> Part:
    if value.names:
        items = tuple((name, _dtype(value.fields[name][0]), int(value.fields[name][1])) for name in value.names)
        return ("fields", int(value.itemsize), *items)
    if value.subdtype:
        return ("sub", _dtype(value.subdtype[0]), tuple(int(size) for size in value.subdtype[1]))
    return str(value.str)


def _named_tuple_or_none(encoder: _Encoder, value: Any) -> Part:
    if isinstance(getattr(type(value), "_fields", None), tuple):
        return encoder.record("namedtuple", value, list(zip(value._fields, value, strict=True)))
    return encoder.other(value)


def _special_form(_: _Encoder, value: Any) -> Part:
    return ("typing", repr(value))


def _simple(*names: str) -> Callable[[_Encoder, Any], Part]:
    def encoder(encoder: _Encoder, value: Any) -> Part:
        parts = [encoder.at(f".{name}", getattr(value, name)) for name in names]
        return (type(value).__name__, *parts)

    return encoder


_EXACT: dict[type, Callable[[_Encoder, Any], Part]] = {
    type(None): lambda _, value: value,
    bool: lambda _, value: value,
    int: _integer,
    str: _Encoder.text,
    bytes: lambda _, value: value,
    float: lambda _, value: ("float", value.hex()),
    complex: lambda _, value: ("complex", value.real.hex(), value.imag.hex()),
    list: _Encoder.sequence,
    tuple: _Encoder.sequence,
    dict: _Encoder.mapping,
    set: _Encoder.unordered,
    frozenset: _Encoder.unordered,
    bytearray: lambda _, value: ("bytearray", bytes(value)),
    range: _simple("start", "stop", "step"),
    slice: _simple("start", "stop", "step"),
    type(...): lambda _, __: ("Ellipsis",),
    type(NotImplemented): lambda _, __: ("NotImplemented",),
    dt.date: lambda _, value: ("date", value.isoformat()),
    dt.timedelta: lambda _, value: ("timedelta", value.days, value.seconds, value.microseconds),
    dt.datetime: _moment,
    dt.time: _moment,
    dt.timezone: _offset,
    zoneinfo.ZoneInfo: _zone,
    decimal.Decimal: lambda _, value: ("Decimal", str(value)),
    fractions.Fraction: lambda _, value: ("Fraction", value.numerator, value.denominator),
    uuid.UUID: lambda _, value: ("UUID", value.hex),
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    re.Pattern: lambda encoder, value: ("pattern", encoder.walk(value.pattern), value.flags),
    collections.OrderedDict: _Encoder.mapping,
    collections.Counter: _Encoder.mapping,
    collections.defaultdict: lambda encoder, value: (
        "defaultdict",
        encoder.at(".default_factory", value.default_factory),
        encoder.mapping(value),
    ),
    collections.deque: lambda encoder, value: ("deque", value.maxlen, encoder.walk(list(value))),
    types.MappingProxyType: lambda encoder, value: ("mappingproxy", encoder.walk(dict(value))),
    types.SimpleNamespace: lambda encoder, value: ("namespace", encoder.walk(dict(sorted(vars(value).items())))),
    array.array: lambda _, value: ("array", value.typecode, value.tobytes()),
}

_KINDS: tuple[tuple[Any, Callable[[_Encoder, Any], Part]], ...] = (
    (enum.Enum, _enum),
    (logging.Logger, _logger),
    (functools.partial, _partial),
    (types.MethodType, _method),
    (types.BuiltinMethodType, _builtin_method),
    (_REDUCED, _reduced),
    ((staticmethod, classmethod), _wrapper),
    (property, _property),
    (functools.cached_property, lambda encoder, value: ("cached_property", encoder.at(".func", value.func))),
    (_GENERICS, _generic),
    (_FORMS, _type_variable),
    (typing.ForwardRef, lambda _, value: ("forward", value.__forward_arg__)),
    (typing.NewType, lambda encoder, value: ("newtype", value.__name__, encoder.walk(value.__supertype__))),
    (type(typing.Optional), _special_form),
    (tuple, _named_tuple_or_none),
)
