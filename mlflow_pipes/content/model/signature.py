"""Signatures as MLflow infers them, without importing MLflow (1-2 s) for the usual tables and numbers."""

from __future__ import annotations

import json
import warnings
from typing import Any

# As in mlflow.types.utils: MLflow's column type -> dtypes
_DTYPES = {
    "boolean": ("bool", "boolean"),
    "integer": ("int8", "int16", "int32", "uint8", "uint16"),
    "long": ("int64", "uint32"),
    "float": ("float32",),
    "double": ("float64",),
    "string": ("str", "string"),
}
_COLUMN_TYPES = {dtype: found for found, dtypes in _DTYPES.items() for dtype in dtypes}


def infer(model: Any, example: Any) -> dict[str, str | None]:
    """Return the signature of a model from rows that it takes: MLflow's JSON by ``inputs``, ``outputs``, ``params``."""
    predicted = model.predict(example.head(5) if hasattr(example, "head") else example[:5])
    inputs, outputs = _schema(example), _schema(predicted)
    if inputs is None or outputs is None:
        return _by_mlflow(example, predicted)
    return {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None}


def _schema(value: Any) -> list[dict[str, Any]] | None:
    """Return the schema of a table or an array of numbers; None for what is better left to MLflow."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "pandas" and kind.__name__ == "DataFrame":
        columns = [_column(name, value.iloc[:, position]) for position, name in enumerate(value.columns)]
        return None if None in columns else columns  # type: ignore[return-value]
    if package == "numpy" and kind.__name__ == "ndarray" and value.dtype.kind in "biuf":
        return [{"type": "tensor", "tensor-spec": {"dtype": value.dtype.name, "shape": [-1, *value.shape[1:]]}}]
    return None


def _column(name: Any, values: Any) -> dict[str, Any] | None:
    dtype = str(values.dtype)
    found = "datetime" if dtype.startswith("datetime64[") and "," not in dtype else _COLUMN_TYPES.get(dtype)
    if found is None or not isinstance(name, str):
        return None
    return {"type": found, "name": name, "required": not bool(values.isna().any())}


def _by_mlflow(example: Any, predicted: Any) -> dict[str, str | None]:
    from mlflow.models import infer_signature

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, str | None] = infer_signature(example, predicted).to_dict()
    return found
