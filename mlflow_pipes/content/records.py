"""Records: named tuples and dataclasses, taken apart into fields and built again."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow_pipes.content.naming import find
from mlflow_pipes.errors import NotFoundError
from mlflow_pipes.hints import is_named_tuple, is_typed_dict


def is_record(value: Any) -> bool:
    """Whether a value is a named tuple or a dataclass instance that its fields can rebuild."""
    kind = type(value)
    if isinstance(value, tuple):
        return is_named_tuple(kind)
    return dataclasses.is_dataclass(kind) and not _init_only(kind)


def _init_only(kind: type) -> bool:
    """Whether the constructor takes values that are not kept (``InitVar``); such a class is pickled."""
    kept = {field.name for field in dataclasses.fields(kind)}
    return any(
        name not in kept and getattr(field, "_field_type", None) is getattr(dataclasses, "_FIELD_INITVAR", object())
        for name, field in getattr(kind, "__dataclass_fields__", {}).items()
    )


def fields_of(value: Any) -> tuple[tuple[str, ...], list[Any]]:
    """Return a record's field names and values, in order."""
    if isinstance(value, tuple):
        return value._fields, list(value)  # type: ignore[attr-defined] # a named tuple's public name
    names = tuple(field.name for field in dataclasses.fields(value))
    missing = [name for name in names if not hasattr(value, name)]
    if missing:
        raise AttributeError(missing[0])
    return names, [getattr(value, name) for name in names]


def class_for(type_name: str, wanted: Any, keys: tuple[Any, ...]) -> type:
    """Return the class to build: *wanted* where it is a record, TypedDict or dict with these fields, else the stored.

    Raises:
        NotFoundError: the stored class is gone and nothing else was asked for.
    """
    if isinstance(wanted, type):
        if wanted is dict or is_typed_dict(wanted):
            return dict
        if keys and set(field_names(wanted) or ()) == set(keys):
            return wanted
    found = find(type_name)
    if not isinstance(found, type) or not (is_named_tuple(found) or dataclasses.is_dataclass(found)):
        raise NotFoundError(
            f"cannot load a record of {type_name}: it is no longer a named tuple or dataclass. Run the step again."
        )
    if changed_fields := set(field_names(found) or ()) ^ set(keys):
        changed = ", ".join(sorted(changed_fields))
        raise NotFoundError(
            f"cannot load a record of {type_name}: its fields have changed since it was stored ({changed}). Run the "
            f"step again."
        )
    return found


def field_names(kind: type) -> tuple[str, ...] | None:
    """Return the names of a record class's fields, in order; None for other classes."""
    if is_named_tuple(kind):
        return tuple(kind._fields)  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return None


def build(kind: type, keys: tuple[Any, ...], values: list[Any]) -> Any:
    """Return an instance of a record class, or a dict, with these fields.

    A dataclass is made by its constructor; fields that ``__post_init__`` or a converter set to something else
    afterwards are put back to what was stored.
    """
    if kind is dict:
        return dict(zip(keys, values, strict=True))
    if is_named_tuple(kind):
        by_name = dict(zip(keys, values, strict=True))
        return kind._make([by_name[name] for name in kind._fields])  # type: ignore[attr-defined]
    stored = dict(zip(keys, values, strict=True))
    fields = dataclasses.fields(kind)
    made = kind(**{field.name: stored[field.name] for field in fields if field.init})
    for name, value in stored.items():
        if getattr(made, name, dataclasses.MISSING) is not value:
            object.__setattr__(made, name, value)
    return made
