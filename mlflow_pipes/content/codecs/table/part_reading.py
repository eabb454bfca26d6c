"""Arrow streams of the datastore as tables, whoever wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mlflow_pipes.content.codecs.table import stream


def as_arrow(view: memoryview) -> pa.Table:
    """Return a stream's table as consumers in pyarrow, polars and Spark see it; columns are views of the memory."""
    from mlflow_pipes.content.codecs.table import frames

    table = stream.read(view)
    return frames.arrow_table(view) if frames.METADATA_KEY in (table.schema.metadata or {}) else table


def as_pandas(view: memoryview, columns: Sequence[Any] | None = None) -> Any:
    """Return a stream's table as a pandas frame; only some of its columns where that is said.

    Whole numbers and truth values of tables that are not pandas' get pandas' nullable types: the same in all parts of
    a table, whether or not some are missing in one of them.
    """
    from mlflow_pipes.content.codecs.table import frames

    table = stream.read(view)
    if frames.METADATA_KEY not in (table.schema.metadata or {}):
        return (table if columns is None else table.select(list(columns))).to_pandas(types_mapper=_nullable)
    found: Any = frames.decode(view)
    frame = found if hasattr(found, "columns") else found.to_frame()
    return frame if columns is None else frame[list(columns)]


def _nullable(kind: pa.DataType) -> Any:
    import pandas as pd

    if pa.types.is_integer(kind):
        return pd.api.types.pandas_dtype(str(kind).replace("uint", "UInt").replace("int", "Int"))
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pd.StringDtype("pyarrow", na_value=float("nan"))
    return None
