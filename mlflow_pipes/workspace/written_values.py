"""What stands on a command line or in a configuration file, as a value of a parameter's type. Pure."""

from __future__ import annotations

import collections.abc
import datetime as dt
import decimal
import enum
import json
import uuid
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

from mlflow_pipes.hints import bare, is_union, members, show

NoneType = type(None)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection,
          collections.abc.Set, collections.abc.MutableSequence)  # fmt: skip
_PLAIN: dict[Any, tuple[str, Any]] = {
    int: ("a whole number", int),
    float: ("a number", float),
    complex: ("a complex number", complex),
    decimal.Decimal: ("a number", decimal.Decimal),
    dt.datetime: ("a time such as 2013-01-31T18:00", dt.datetime.fromisoformat),
    dt.date: ("a date such as 2013-01-31", dt.date.fromisoformat),
    dt.time: ("a time of day such as 18:00", dt.time.fromisoformat),
    uuid.UUID: ("a UUID", uuid.UUID),
    bytes: ("text", lambda text: text.encode()),
    str: ("text", str),
}


def sequence_of(hint: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """Return what makes a list-like hint's value, and the hints of its items; None for what is no list.

    There is one item hint for any number of items, or one for each where :func:`is_fixed` says so.
    """
    hint = without_none(hint)
    origin = get_origin(hint) or hint
    if origin not in _LISTS or origin is str:
        return None
    arguments = get_args(hint)
    maker = origin if origin in {list, tuple, set, frozenset} else list if origin is not collections.abc.Set else set
    if is_fixed(hint):
        return maker, arguments
    return maker, (arguments[0] if arguments else Any,)


def is_fixed(hint: Any) -> bool:
    """Tell ``tuple[int, str]``, which has a set length, from ``tuple[int, ...]`` and lists."""
    arguments = get_args(without_none(hint))
    return get_origin(without_none(hint)) is tuple and bool(arguments) and arguments[-1] is not Ellipsis


def without_none(hint: Any) -> Any:
    """Return ``T`` for ``T | None``, other hints as they are."""
    hint = bare(hint)
    if not is_union(hint):
        return hint
    others = [member for member in members(hint) if member is not NoneType]
    return bare(others[0]) if len(others) == 1 else hint


def may_be_none(hint: Any) -> bool:
    """Tell whether ``none`` is a value."""
    return any(member is NoneType for member in members(bare(hint)))


def can_be_text(hint: Any) -> bool:
    """Tell whether a value of the hint can be given on a command line at all."""
    listed = sequence_of(hint)
    if listed is not None:
        return all(can_be_text(item) for item in listed[1])
    return any(_is_known(member) for member in members(bare(hint)))


def _is_known(hint: Any) -> bool:
    if hint is Any or hint is NoneType or hint in _PLAIN or hint is bool or get_origin(hint) is Literal:
        return True
    if (get_origin(hint) or hint) in {dict, collections.abc.Mapping}:
        return True
    return isinstance(hint, type) and issubclass(hint, (enum.Enum, PurePath))


def value_of(text: str, hint: Any) -> Any:  # noqa: PLR0911 - one line a type
    """Return the value that *text* means where *hint* is expected.

    Raises:
        ValueError: it means none; the message says what is expected.
    """
    hint = bare(hint)
    if is_union(hint):
        return _of_union(text, hint)
    if hint is bool:
        return _truth(text)
    if hint in _PLAIN:
        expected, convert = _PLAIN[hint]
        try:
            return convert(text)
        except (ValueError, decimal.InvalidOperation):
            raise ValueError(f"{text!r} is not {expected}") from None
    if hint is NoneType:
        if text.lower() in {"none", "null"}:
            return None
        raise ValueError(f"{text!r} is not none")
    if get_origin(hint) is Literal:
        return _of_choices(text, {str(choice): choice for choice in get_args(hint)})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        by_value = {str(member.value): member for member in hint}
        return _of_choices(text, {**by_value, **{member.name: member for member in hint}}, shown=choices_of(hint))
    if isinstance(hint, type) and issubclass(hint, PurePath):
        path = hint(text)
        return path.expanduser() if isinstance(path, Path) else path
    return _of_json(text, hint)


def fitted(value: Any, hint: Any) -> Any:
    """Return what a value of a configuration file means where *hint* is expected.

    Texts may stand for paths, dates and the like, lists for tuples and sets; others are what they are.

    >>> fitted([4, 8], tuple[int, ...]), fitted("2013-01-31", dt.date), fitted("4", Any)
    ((4, 8), datetime.date(2013, 1, 31), '4')

    Raises:
        ValueError: it means none; the message says what is expected.
    """
    listed = sequence_of(hint)
    if isinstance(value, list) and listed is not None:
        maker, hints = listed
        if is_fixed(hint) and len(hints) != len(value):
            raise ValueError(f"expected {len(hints)} values ({show(without_none(hint))}), got {len(value)}")
        of_items = hints if is_fixed(hint) else hints * len(value)
        return maker(fitted(item, one) for item, one in zip(value, of_items, strict=True))
    if isinstance(value, str) and listed is None and bare(hint) is not Any:
        return value_of(value, hint)
    return value


def items_of(texts: collections.abc.Sequence[str], hint: Any) -> Any:
    """Return the list, tuple or set that the texts mean: each a comma-separated list, or a JSON array.

    Raises:
        ValueError: an item is of the wrong type, or there are too few or too many.
    """
    listed = sequence_of(hint)
    assert listed is not None, "asked only for list-like hints"
    maker, item_hints = listed
    pieces = [piece for text in texts for piece in _pieces(text)]
    if is_fixed(hint):
        if len(pieces) != len(item_hints):
            raise ValueError(f"expected {len(item_hints)} values ({show(without_none(hint))}), got {len(pieces)}")
        return tuple(value_of(piece, item) for piece, item in zip(pieces, item_hints, strict=True))
    return maker(value_of(piece, item_hints[0]) for piece in pieces)


def _pieces(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            return [item if isinstance(item, str) else json.dumps(item) for item in json.loads(text)]
        except ValueError:
            raise ValueError(f"{text!r} begins like a JSON array but is none") from None
    return [piece.strip() for piece in text.split(",") if piece.strip()] if text.strip() else []


def choices_of(hint: Any) -> list[str]:
    """Return the texts that are possible, empty when there is no such list."""
    hint = without_none(hint)
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        return values if all(isinstance(value, str) for value in values) else [member.name for member in hint]
    return []


def _of_union(text: str, hint: Any) -> Any:
    alternatives = [member for member in members(hint) if can_be_text(member)]
    # Text fits everything, so it is asked last; none fits one word only, so first.
    order = sorted(alternatives, key=lambda member: (member is not NoneType, member is str, member is Any))
    for member in order:
        try:
            return items_of([text], member) if sequence_of(member) else value_of(text, member)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is not {show(hint)}")


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _of_choices(text: str, choices: dict[str, Any], shown: list[str] | None = None) -> Any:
    if text in choices:
        return choices[text]
    folded = {choice.lower(): value for choice, value in choices.items()}
    if text.lower() in folded:
        return folded[text.lower()]
    raise ValueError(f"{text!r} is not one of {', '.join(shown or choices)}")


def _of_json(text: str, hint: Any) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        if hint is Any:
            return text
        raise ValueError(f"{text!r} is not JSON ({show(hint)} is expected)") from None
    if hint is not Any and not isinstance(value, dict):
        raise ValueError(f"{text!r} is not a JSON object ({show(hint)} is expected)")
    return value
