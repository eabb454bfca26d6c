"""Plain data as canonical JSON: scalars, dates, and lists, tuples, dicts and sets of them.

Types round-trip exactly (``1``, ``1.0`` and ``True`` differ; so do a list and a tuple), and equal values of equal
types have equal bytes. What JSON has no word for stands as ``{"!": tag, "v": content}``; a dict that has a key
``"!"`` or a key that is no string stands as tag ``dict``. The order of a dict is kept: programs see it. Sets are
sorted by their items' encodings.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from mlflow_pipes.content.codec import INLINE_LIMIT_BYTES, Declined, Encoded, Stored, Storing
from mlflow_pipes.content.naming import find, type_name
from mlflow_pipes.wording import clipped

if TYPE_CHECKING:
    from mlflow_pipes.model.artifact import Leaf

TAG = "!"
# Python refuses to print integers of many digits (its limit can be set, so it must not decide the encoding).
BIG = 1 << 1024

_NATIVE = frozenset({str, bool, type(None), float})

_encode_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class PlainCodec:
    """Codec ``json``."""

    name = "json"

    def accepts(self, value: Any) -> bool:
        """Whether the value may be plain data; containers are looked into by ``encode``."""
        return type(value) in _ENCODERS or isinstance(value, Enum)

    def encode(self, value: Any, storing: Storing | None = None) -> Encoded:  # noqa: ARG002 - the codec's interface
        """Return canonical JSON; ``Declined`` when something inside is not plain."""
        blob = encode_plain(value)
        if len(blob) > INLINE_LIMIT_BYTES and hasattr(value, "__len__"):
            return Encoded(blob, f"{type(value).__name__} of {len(value)}")
        return Encoded(blob)

    def decode(self, stored: Stored, wanted: Any = Any) -> Any:  # noqa: ARG002 - the codec's interface
        """Return the value."""
        return decode_plain(stored.view())

    def describe(self, leaf: Leaf) -> str:
        """Return the value where it is short, else its kind and size."""
        if leaf.inline is not None:
            value = decode_plain(leaf.inline)
            text = repr(value)
            if len(text) <= 60:
                return text
            return f"{type(value).__name__} of {len(value):,}" if hasattr(value, "__len__") else clipped(text, 60)
        kind, _, count = leaf.form.partition(" of ")
        return f"{kind} of {int(count):,}" if count else f"plain data, {leaf.digest.size_bytes:,} bytes"


CODEC = PlainCodec()


def encode_plain(value: Any) -> bytes:
    """Return the canonical JSON of plain data.

    Raises:
        Declined: something in it is not plain.
    """
    return _encode_json(jsonable(value)).encode("ascii")


def decode_plain(blob: bytes | memoryview) -> Any:
    """Return the value of canonical JSON."""
    return _decode_json(str(blob, "ascii"))


def jsonable(value: Any) -> Any:
    """Return what stands for a value in JSON; the value itself where JSON has it."""
    kind = type(value)
    if kind in _NATIVE:
        return value
    encoder = _ENCODERS.get(kind)
    if encoder is not None:
        return encoder(value)
    if isinstance(value, Enum):
        return _enum(value)
    raise Declined(f"{kind.__name__} is not plain data")


def _int(value: int) -> Any:
    return value if -BIG < value < BIG else {TAG: "int", "v": hex(value)}


def _items(values: list[Any] | tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
    kinds = set(map(type, values))
    if kinds <= _NATIVE:
        return values
    if kinds == {int} and min(values) > -BIG and max(values) < BIG:
        return values
    return [jsonable(value) for value in values]


def _dict(value: dict[Any, Any]) -> Any:
    if set(map(type, value)) <= {str} and TAG not in value:
        if set(map(type, value.values())) <= _NATIVE:
            return value
        return {key: jsonable(item) for key, item in value.items()}
    return {TAG: "dict", "v": [[jsonable(key), jsonable(item)] for key, item in value.items()]}


def _set(value: set[Any] | frozenset[Any]) -> Any:
    texts = sorted([_encode_json(jsonable(item)) for item in value])
    return {TAG: type(value).__name__, "v": [json.loads(text) for text in texts]}


def _zone(zone: tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        plain = timezone(offset := zone.utcoffset(None))
        name = zone.tzname(None)
        seconds = [offset.days * 86400 + offset.seconds, offset.microseconds]
        return seconds if name == plain.tzname(None) else [*seconds, name]
    raise Declined(f"time zone {zone!r} is not plain data")


def _unzone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        return ZoneInfo(zone)
    offset = timedelta(seconds=zone[0], microseconds=zone[1])
    return timezone(offset, zone[2]) if len(zone) > 2 else timezone(offset)


def _moment(value: datetime | time) -> Any:
    return [value.replace(tzinfo=None, fold=0).isoformat(), _zone(value.tzinfo), value.fold]


def _enum(value: Enum) -> Any:
    kind = type(value)
    if kind.__members__.get(value.name) is not value:
        raise Declined(f"{value!r} is not a named member of {kind.__name__}")
    return {TAG: "enum", "v": [type_name(kind), value.name]}


_TAGGED: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: b64encode(value).decode("ascii"),
    bytearray: lambda value: b64encode(value).decode("ascii"),
    complex: lambda value: [value.real, value.imag],
    datetime: _moment,
    time: _moment,
    date: date.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    Fraction: lambda value: [_int(value.numerator), _int(value.denominator)],
    UUID: lambda value: value.hex,
    range: lambda value: [_int(value.start), _int(value.stop), _int(value.step)],
    tuple: _items,
}


def _tagged(name: str, content: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {TAG: name, "v": content(value)}


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    **{kind: _tagged(kind.__name__, content) for kind, content in _TAGGED.items()},
    **{kind: lambda value: value for kind in (str, bool, type(None), float)},
    int: _int,
    list: _items,
    dict: _dict,
    set: _set,
    frozenset: _set,
}

_DECODERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "bytes": b64decode,
    "bytearray": lambda text: bytearray(b64decode(text)),
    "complex": lambda parts: complex(*parts),
    "datetime": lambda v: datetime.fromisoformat(v[0]).replace(tzinfo=_unzone(v[1]), fold=v[2]),
    "time": lambda v: time.fromisoformat(v[0]).replace(tzinfo=_unzone(v[1]), fold=v[2]),
    "date": date.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "Decimal": Decimal,
    "Fraction": lambda parts: Fraction(*parts),
    "UUID": UUID,
    "range": lambda parts: range(*parts),
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
    "enum": lambda v: find(v[0])[v[1]],
}


def _untag(found: dict[str, Any]) -> Any:
    return _DECODERS[found[TAG]](found["v"]) if TAG in found else found


_decode_json = json.JSONDecoder(object_hook=_untag).decode
