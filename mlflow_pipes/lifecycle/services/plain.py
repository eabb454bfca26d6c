"""Values as JSON can say them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    """Return a value of Python, NumPy or pandas as JSON-like data; not-a-number and missing values become None.

    A data frame becomes a list of one dict a row.

    Raises:
        ValueError: infinity, which JSON has no word for.
        TypeError: something else that JSON has no word for.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("infinity: JSON has no word for it")
        return None if math.isnan(value) else float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "to_dicts"):  # polars.DataFrame
        return plain(value.to_dicts())
    if hasattr(value, "columns") and hasattr(value, "to_dict"):  # pandas.DataFrame
        return plain(value.to_dict("records"))
    if hasattr(value, "to_pylist"):  # pyarrow.Table, pyarrow.Array
        return plain(value.to_pylist())
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars, pandas.Series
        return plain(value.tolist())
    if hasattr(value, "isoformat"):  # dates and times; pandas.NaT calls itself so
        text = value.isoformat()
        return None if text == "NaT" else text
    if type(value).__name__ == "NAType":  # pandas.NA
        return None
    raise TypeError(f"a {type(value).__name__}: JSON has no word for it")
