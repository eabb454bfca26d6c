"""Logged values as metrics: which of MLflow's and Azure's kinds each one is."""

from __future__ import annotations

import io
import math
import numbers
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import ArgumentError
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.tracked import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# A table metric is shown to people and kept as a row of the ledger; more belongs in the step's output.
LONGEST_COLUMN = 10_000


def metric_of(key: str, value: Any, *, step: int, timestamp_ms: int) -> Metric:
    """Return *value* as a metric; a figure carries its PNG bytes inline.

    Raises:
        ArgumentError: the value is of no kind that can be logged, or too long.
    """
    if isinstance(value, str):
        return Metric(key, "text", plain=value, step=step, timestamp_ms=timestamp_ms)
    number = _number(value)
    if number is not None:
        return Metric(key, "number", number=number, step=step, timestamp_ms=timestamp_ms)
    if hasattr(value, "savefig"):
        return Metric(key, "figure", figure=_png(key, value), step=step, timestamp_ms=timestamp_ms)
    columns = _columns(value)
    if columns is not None:
        table = {str(name): _plain_list(key, column) for name, column in columns.items()}
        return Metric(key, "table", plain=table, step=step, timestamp_ms=timestamp_ms)
    if hasattr(value, "tolist") or hasattr(value, "to_list") or isinstance(value, list | tuple | range):
        return Metric(key, "list", plain=_plain_list(key, value), step=step, timestamp_ms=timestamp_ms)
    raise ArgumentError(
        f"cannot log {key!r}: a {type(value).__name__} is neither a number, text, list, dict of columns, data frame "
        f"nor matplotlib figure. Log what describes it, or return it from the step."
    )


def _number(value: Any) -> float | None:
    if isinstance(value, numbers.Real):
        return float(value)
    # NumPy, PyTorch and JAX scalars, without importing any of them.
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        inner = value.item()
        return float(inner) if isinstance(inner, numbers.Real) else None
    return None


def _columns(value: Any) -> Mapping[Any, Iterable[Any]] | None:
    if isinstance(value, dict):
        return {key: column if _is_column(column) else [column] for key, column in value.items()}
    if hasattr(value, "to_pydict"):  # pyarrow
        found: Mapping[Any, Iterable[Any]] = value.to_pydict()
        return found
    if hasattr(value, "columns") and hasattr(value, "__getitem__"):  # pandas, polars
        return {name: value[name] for name in value.columns}
    return None


def _is_column(value: Any) -> bool:
    return isinstance(value, list | tuple | range) or (hasattr(value, "tolist") and getattr(value, "shape", ()) != ())


def _plain_list(key: str, values: Any) -> list[Any]:
    # pandas and NumPy say tolist, polars says to_list; both turn their scalars into Python's.
    convert = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    items = list(convert() if convert else values)
    if len(items) > LONGEST_COLUMN:
        raise ArgumentError(
            f"cannot log {key!r}: {len(items)} values are more than {LONGEST_COLUMN}. "
            f"Log a summary, or return the values from the step."
        )
    return [_plain(item) for item in items]


def _plain(item: Any) -> Any:
    if item is None or isinstance(item, str | bool | int):
        return item
    number = _number(item)
    if number is not None:
        # JSON has no NaN; in a table it means that there is no value.
        return number if math.isfinite(number) else None if math.isnan(number) else str(number)
    if isinstance(item, list | tuple):
        return [_plain(inner) for inner in item]
    return str(item)


def _png(key: str, figure: Any) -> Leaf:
    drawn = io.BytesIO()
    # Without "Software" the same figure gives the same bytes whatever matplotlib's version.
    figure.savefig(drawn, format="png", bbox_inches="tight", metadata={"Software": None})
    content = drawn.getvalue()
    return Leaf("file", digest_bytes(content), form=f"{key.replace('/', '_')}.png", inline=content)
