"""Which codec stores a value, and which one reads a leaf. Nothing heavy is imported to find out."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import DatastoreError, suggest

if TYPE_CHECKING:
    from mlflow_pipes.content.codec import Codec

GROUP = "mlflow_pipes.codecs"

_CODECS = "mlflow_pipes.content.codecs"
_BUILT_IN = {
    "json": (f"{_CODECS}.plain", "CODEC"),
    "text": (f"{_CODECS}.raw", "TEXT"),
    "bytes": (f"{_CODECS}.raw", "BYTES"),
    "table": (f"{_CODECS}.table", "CODEC"),
    "partitioned": (f"{_CODECS}.table.partitioned", "CODEC"),
    "array": (f"{_CODECS}.array", "CODEC"),
    "chunked": (f"{_CODECS}.chunked", "CODEC"),
    "file": (f"{_CODECS}.files", "FILE"),
    "tree": (f"{_CODECS}.files", "TREE"),
    "figure": (f"{_CODECS}.figure", "CODEC"),
    "model": (f"{_CODECS}.model", "CODEC"),
    "graph": (f"{_CODECS}.graph", "CODEC"),
    "pickle": (f"{_CODECS}.pickled", "CODEC"),
}

# Top-level package of a class in the value's MRO -> the codecs to ask. A value of a package's class proves that the
# package is imported already, so its codec may use it.
_BY_PACKAGE: dict[str, tuple[str, ...]] = {
    "pathlib": ("file", "tree"),
    "pandas": ("table",),
    "polars": ("table",),
    "pyarrow": ("table",),
    "dask": ("partitioned", "chunked"),
    "dask_expr": ("partitioned",),
    "pyspark": ("partitioned",),
    "numpy": ("array",),
    "matplotlib": ("figure",),
    "mlflow_pipes": ("model", "graph"),
    **dict.fromkeys(
        ("sklearn", "xgboost", "lightgbm", "catboost", "torch", "keras", "tensorflow", "statsmodels", "prophet"),
        ("model",),
    ),
}


@lru_cache(maxsize=64)
def named(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        DatastoreError: it is not installed here.
    """
    where = _BUILT_IN.get(name)
    if where is not None:
        codec: Codec = getattr(importlib.import_module(where[0]), where[1])
        return codec
    for codec in third_party():
        if codec.name == name:
            return codec
    known = [*_BUILT_IN, *(codec.name for codec in third_party())]
    raise DatastoreError(
        f"this value was stored by codec {name!r}, which is not installed here{suggest(name, known)}. Install the "
        f"package that brings it (entry point {GROUP})."
    )


@lru_cache(maxsize=1)
def third_party() -> tuple[Codec, ...]:
    """Return the codecs that other packages bring, by entry point; looked up once a process."""
    from importlib.metadata import entry_points

    return tuple(_instance(entry.load()) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def _instance(loaded: Any) -> Codec:
    codec: Codec = loaded() if isinstance(loaded, type) else loaded
    return codec


@lru_cache(maxsize=1024)
def _names_for(kind: Any) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for parent in kind.__mro__:
        names.update(dict.fromkeys(_BY_PACKAGE.get(parent.__module__.partition(".")[0], ())))
    return tuple(names)


def built_in_for(value: Any) -> list[Codec]:
    """Return the built-in codecs to ask about a value of a special package's class."""
    kind: Any = type(value)
    return [named(name) for name in _names_for(kind)]
