"""Types and defaults as help texts show them. Pure."""

from __future__ import annotations

import collections.abc
import datetime as dt
import enum
import json
from pathlib import PurePath
from typing import Any, get_origin

from mlflow_pipes.hints import is_union, members
from mlflow_pipes.workspace.written_values import NoneType, choices_of, is_fixed, sequence_of, without_none

_METAVARS: dict[Any, str] = {
    int: "INTEGER",
    float: "NUMBER",
    str: "TEXT",
    bytes: "TEXT",
    bool: "true|false",
    dt.date: "DATE",
    dt.datetime: "TIME",
    Any: "VALUE",
}


def text_of(value: Any) -> str:
    """Return a default as it would be given on the command line."""
    if isinstance(value, enum.Enum):
        return str(value.value if isinstance(value.value, str) else value.name)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return ",".join(text_of(item) for item in items) or "(empty)"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, dict):
        return json.dumps(value, default=str)
    return str(value) or "(empty)"


def metavar_of(hint: Any) -> str:  # noqa: PLR0911 - one line a type
    """Return the word that stands for a value in help: ``INTEGER``, ``a|b``, ``INTEGER,...``."""
    listed = sequence_of(hint)
    if listed is not None:
        words = [metavar_of(item) for item in listed[1]]
        return ",".join(words) if is_fixed(hint) else f"{words[0]},..."
    inner = without_none(hint)
    choices = choices_of(inner)
    if choices:
        return "|".join(choices)
    if any(inner is known for known in _METAVARS):
        return _METAVARS[inner]
    if isinstance(inner, type) and issubclass(inner, PurePath):
        return "PATH"
    if (get_origin(inner) or inner) in {dict, collections.abc.Mapping}:
        return "JSON"
    if is_union(inner):
        return "|".join(metavar_of(member) for member in members(inner) if member is not NoneType)
    return getattr(inner, "__name__", "VALUE").upper()
