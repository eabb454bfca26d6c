"""A model in memory: an MLflow model folder, loaded, with its signature in the scoring protocol's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_pipes.lifecycle.services.plain import plain
from mlflow_pipes.lifecycle.services.scoring import Column, RefusedError, Request
from mlflow_pipes.quick_dataclasses import dataclass

if TYPE_CHECKING:
    from pathlib import Path

_DTYPES = {"boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64",
           "datetime": "datetime64[ns]"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded pyfunc model.

    Attributes:
        columns: what its signature takes as a table; None when it takes tensors or has no signature.
        takes_params: whether its signature has inference parameters.
    """

    pyfunc: Any
    columns: tuple[Column, ...] | None
    takes_params: frozenset[str]

    @classmethod
    def load(cls, folder: Path) -> ServedModel:
        """Load the model and try it on its input example, if it has one: what cannot predict must not be deployed."""
        import mlflow.pyfunc

        pyfunc = mlflow.pyfunc.load_model(str(folder))
        metadata = pyfunc.metadata
        params = metadata.get_params_schema()
        model = cls(
            pyfunc,
            columns=_columns(metadata.get_input_schema()),
            takes_params=frozenset(spec.name for spec in params.params) if params else frozenset(),
        )
        example = metadata.load_input_example(str(folder)) if metadata.saved_input_example_info else None
        if example is not None:
            pyfunc.predict(example)
        return model

    def predict(self, request: Request) -> Any:
        """Return predictions as JSON can say them.

        Raises:
            RefusedError: 422, the model's signature does not take the request.
        """
        from mlflow.exceptions import MlflowException

        for name in set(request.params or ()) - self.takes_params:
            known = ", ".join(sorted(self.takes_params)) or "none"
            raise RefusedError(422, f"parameter {name!r} is not known; the model takes {known}")
        given = self._table(request.columns) if request.columns is not None else self._tensor(request.tensor)
        try:
            predicted = self.pyfunc.predict(given, params=dict(request.params) if request.params else None)
        except MlflowException as error:
            # MLflow's enforcement of the signature, for the types that we do not check ourselves.
            if error.error_code not in {"BAD_REQUEST", "INVALID_PARAMETER_VALUE"}:
                raise
            raise RefusedError(422, str(error.message)) from error
        return plain(predicted)

    def _table(self, columns: Mapping[str, list[Any]]) -> Any:
        import pandas as pd

        types = {column.name: _DTYPES.get(column.type, "object") for column in self.columns or ()}
        try:
            return pd.DataFrame({name: pd.Series(values, dtype=types.get(name)) for name, values in columns.items()})
        except (ValueError, TypeError) as error:
            raise RefusedError(422, f"the columns make no table: {error}") from error

    def _tensor(self, value: Any) -> Any:
        import numpy as np

        schema = self.pyfunc.metadata.get_input_schema()
        try:
            if schema is not None and schema.is_tensor_spec():
                if not isinstance(value, dict):
                    return np.asarray(value, dtype=schema.inputs[0].type)
                types = {spec.name: spec.type for spec in schema.inputs}
                return {name: np.asarray(items, dtype=types.get(name)) for name, items in value.items()}
            if isinstance(value, dict):
                return {name: np.asarray(items) for name, items in value.items()}
            return np.asarray(value)
        except (ValueError, TypeError) as error:
            raise RefusedError(422, f"the values make no array that the model takes: {error}") from error


def _columns(schema: Any) -> tuple[Column, ...] | None:
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    return tuple(Column(spec.name, getattr(spec.type, "name", str(spec.type)), spec.required) for spec in schema.inputs)
