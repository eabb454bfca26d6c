"""Whether a step's output is what it declares, as far as that is cheap to tell."""

from __future__ import annotations

from typing import Any, get_origin

from mlflow_pipes.content.records import field_names
from mlflow_pipes.errors import UnstorableOutputError, suggest
from mlflow_pipes.hints import bare


def as_declared(value: Any, declared: Any, step: str) -> Any:
    """Return the output in its declared record type.

    A plain tuple of the right length becomes the declared named tuple: ``return train, test`` is how such functions
    are written. All other types are not converted; consumers' annotations are checked when the graph is declared.

    Raises:
        UnstorableOutputError: it is not a record of the declared type, or None where something was declared.
    """
    declared = bare(declared)
    if declared is Any or not isinstance(declared, type) or get_origin(declared) is not None:
        return value
    if value is None and declared is not type(None):
        raise UnstorableOutputError(
            f"{step} declares {declared.__qualname__} but returned None: is a `return` missing? "
            f"If None is meant, declare `{declared.__qualname__} | None`."
        )
    fields = field_names(declared)
    if fields is None or _is_instance(value, declared):
        return value
    if issubclass(declared, tuple) and isinstance(value, tuple) and field_names(type(value)) is None:
        if len(value) == len(fields):
            return declared(*value)
        raise UnstorableOutputError(
            f"{step} declares {declared.__qualname__} with {len(fields)} fields ({', '.join(fields)}) but returned a "
            f"tuple of {len(value)}: return {declared.__qualname__}({', '.join(f'{name}=...' for name in fields)})"
        )
    hint = ""
    if isinstance(value, dict):
        strange = [str(key) for key in value if key not in fields]
        hint = f" ({strange[0]!r} is no field of it{suggest(strange[0], fields)})" if strange else ""
    raise UnstorableOutputError(
        f"{step} declares {declared.__qualname__} but returned a {type(value).__qualname__}{hint}: "
        f"return {declared.__qualname__}({', '.join(f'{name}=...' for name in fields)}) or change the annotation"
    )


def _is_instance(value: Any, declared: type) -> bool:
    if isinstance(value, declared):
        return True
    # A module that was imported twice (once as __main__) has its classes twice.
    return type(value).__qualname__ == declared.__qualname__ and field_names(type(value)) == field_names(declared)
