"""What commands write to standard output: JSON for scripts, lines and tables for people."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mlflow_pipes.display.look import Line, Look, Span
from mlflow_pipes.display.tables import table_lines


def write_json(value: Any) -> None:
    """Write one JSON document: two-space indent, times as ISO 8601 in UTC."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(lines: Iterable[Line]) -> None:
    """Write lines for a person, with colours where there are any, not cut."""
    look = stdout_look(cut=False)
    sys.stdout.write("".join(look.text(line) + "\n" for line in lines))


def write_table(header: Sequence[str], rows: Sequence[Sequence[Span]], *, right: frozenset[int] = frozenset()) -> None:
    """Write a table, cut to the terminal's width; to a pipe or a file in full."""
    look = stdout_look()
    sys.stdout.write("".join(look.text(line) + "\n" for line in table_lines(look, header, rows, right=right)))


def stdout_look(*, cut: bool = True) -> Look:
    """Return the look of standard output."""
    look = Look.of(sys.stdout, os.environ)
    return look if cut else dataclasses.replace(look, width=None)


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    """Return *value* as JSON-like data; what JSON cannot say becomes text (a number that is none becomes null)."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, (dt.datetime, dt.date)):
        return iso(value) if isinstance(value, dt.datetime) else value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else repr(value)


def iso(moment: dt.datetime | float | None) -> str | None:
    """Return a moment as ISO 8601 in UTC, such as ``2013-01-31T18:00:00.123Z``.

    >>> iso(0.0)
    '1970-01-01T00:00:00.000Z'
    """
    if moment is None:
        return None
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.fromtimestamp(moment, dt.UTC)
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
