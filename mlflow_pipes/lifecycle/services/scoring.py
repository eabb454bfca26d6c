"""MLflow's scoring protocol: from a request's JSON to checked columns. Pure; pandas and mlflow are not needed.

https://mlflow.org/docs/latest/deployment/deploy-model-locally#inference-server-specification
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from mlflow_pipes.errors import suggest
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.wording import clipped

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
Columns: TypeAlias = dict[str, list[Any]]


class RefusedError(Exception):
    """The request is wrong; *status* is the HTTP status that says how."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a model's signature; *type* is MLflow's name for it, such as ``double``."""

    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: a table (*columns*), or else whatever stood under ``instances`` or ``inputs`` (*tensor*)."""

    columns: Columns | None = None
    tensor: Any = None
    params: Mapping[str, Any] | None = None


def read_request(body: bytes, signature: Sequence[Column] | None) -> Request:
    """Return what a request's body asks.

    With a signature of columns the request must give a table, which is checked against it; without one (*None*)
    ``instances`` and ``inputs`` are passed on as they are.

    Raises:
        RefusedError: 400 for what is no request of the protocol, 422 for one that the model's signature does not take.
    """
    asked = _decoded(body)
    given = [name for name in FORMATS if name in asked]
    for unknown in asked.keys() - {*FORMATS, "params"}:
        raise RefusedError(400, f"unknown key {unknown!r}{suggest(unknown, [*FORMATS, 'params'])}; {_ONE_OF}")
    if len(given) != 1:
        raise RefusedError(400, f"{'none' if not given else ' and '.join(given)} given; {_ONE_OF}")
    params = asked.get("params")
    if params is not None and not isinstance(params, dict):
        raise RefusedError(400, f"params must be an object, not {_json_type(params)}")
    value = asked[given[0]]
    if given[0] == "dataframe_split":
        columns = _from_split(value)
    elif given[0] == "dataframe_records":
        columns = _from_records(value, given[0])
    elif signature is None:
        return Request(tensor=value, params=params)
    else:
        columns = _from_tensor_format(value, given[0], signature)
    if signature is not None:
        columns = check_columns(columns, signature)
    return Request(columns=columns, params=params)


_ONE_OF = f"the body must hold exactly one of {', '.join(FORMATS)}"


def _decoded(body: bytes) -> dict[str, Any]:
    def refuse_constant(name: str) -> Any:
        raise RefusedError(400, f"the body is not JSON: {name} is no JSON value; write null")

    try:
        asked = json.loads(body, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {type(error).__name__}") from None
    if not isinstance(asked, dict):
        raise RefusedError(400, f"the body is {_json_type(asked)}, not an object; {_ONE_OF}")
    return asked


def _from_split(value: Any) -> Columns:
    what = "dataframe_split"
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys():
        raise RefusedError(400, f"{what} must be an object with 'columns' and 'data'")
    for unknown in value.keys() - {"columns", "data", "index"}:
        raise RefusedError(400, f"{what}: unknown key {unknown!r}{suggest(unknown, ['columns', 'data', 'index'])}")
    names, data = value["columns"], value["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusedError(400, f"{what}: 'columns' must be a list of names")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RefusedError(400, f"{what}: column {twice!r} is given twice")
    return _from_lists(data, names, what)


def _from_lists(data: Any, names: Sequence[str], what: str) -> Columns:
    if not isinstance(data, list):
        raise RefusedError(400, f"{what}: the rows must be a list, not {_json_type(data)}")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            got = f"{len(row)} values" if isinstance(row, list) else _json_type(row)
            raise RefusedError(400, f"{what}: row {number} is {got}, not a list of {len(names)} values")
    return {name: [row[place] for row in data] for place, name in enumerate(names)}


def _from_records(value: Any, what: str) -> Columns:
    if not isinstance(value, list):
        raise RefusedError(400, f"{what} must be a list of objects, not {_json_type(value)}")
    names: dict[str, None] = {}
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise RefusedError(400, f"{what}: row {number} is {_json_type(row)}, not an object")
        names.update(dict.fromkeys(row))
    return {name: [row.get(name) for row in value] for name in names}


def _from_tensor_format(value: Any, what: str, signature: Sequence[Column]) -> Columns:
    """Read ``instances`` or ``inputs`` for a model that wants a table."""
    if isinstance(value, dict):
        lengths = {len(items) if isinstance(items, list) else -1 for items in value.values()}
        if len(lengths) > 1 or -1 in lengths:
            raise RefusedError(400, f"{what}: as an object it must hold lists of one length, by column name")
        return dict(value)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return _from_records(value, what)
    return _from_lists(value, [column.name for column in signature], what)


def check_columns(given: Columns, signature: Sequence[Column]) -> Columns:
    """Return the columns in the signature's order, values converted from JSON's types to the signature's.

    Raises:
        RefusedError: 422, naming a column that is missing, unknown or mistyped; a near name is suggested.
    """
    known = {column.name: column for column in signature}
    extra = [name for name in given if name not in known]
    missing = [name for name, column in known.items() if column.required and name not in given]
    if missing:
        name = missing[0]
        near = suggest(name, extra).replace("did you mean", "is it what you call")
        raise RefusedError(422, f"column {_names(missing)} missing{near}; the model takes {_listed(signature)}")
    if extra:
        near = suggest(extra[0], known)
        raise RefusedError(422, f"column {_names(extra)} not known{near}; the model takes {_listed(signature)}")
    return {name: _converted(given[name], column) for name, column in known.items() if name in given}


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names))} {'is' if len(names) == 1 else 'are'}"


def _listed(signature: Sequence[Column]) -> str:
    return ", ".join(f"{column.name} ({column.type}{'' if column.required else ', optional'})" for column in signature)


def _converted(values: Sequence[Any], column: Column) -> list[Any]:
    convert = _CONVERTERS.get(column.type)
    if convert is None:  # arrays, objects, maps: MLflow checks those itself
        return list(values)
    converted: list[Any] = []
    for number, value in enumerate(values):
        if value is None and (column.type not in _NOT_NULL):
            converted.append(None)
            continue
        try:
            converted.append(convert(value))
        except (ValueError, TypeError, OverflowError):
            raise RefusedError(
                422,
                f"column {column.name!r} takes {_EXPLAINED[column.type]} ({column.type}), but row {number} holds "
                f"{clipped(json.dumps(value), 40)} ({_json_type(value)})",
            ) from None
    return converted


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(bits: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise TypeError
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise OverflowError
        return int(value)

    return convert


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not math.isfinite(value):  # 1e999 is JSON
        raise OverflowError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _time(value: Any) -> dt.datetime:
    return dt.datetime.fromisoformat(_text(value))


def _binary(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error:
        raise ValueError from None


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "boolean": _boolean,
    "integer": _whole(32),
    "long": _whole(64),
    "float": _number,
    "double": _number,
    "string": _text,
    "datetime": _time,
    "binary": _binary,
}
_NOT_NULL = frozenset({"boolean", "integer", "long"})  # NumPy's integers and booleans have no null
_EXPLAINED = {
    "boolean": "true or false",
    "integer": "whole numbers of 32 bits",
    "long": "whole numbers of 64 bits",
    "float": "numbers or null",
    "double": "numbers or null",
    "string": "texts or null",
    "datetime": "ISO 8601 times or null",
    "binary": "base64 texts or null",
}


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"
