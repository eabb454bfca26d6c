"""Models as steps hand them on: as the MLflow folder that they are stored in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from mlflow_pipes.errors import ArgumentError

# A model of any class may be handed over; what asks for a Path is given the folder that it was stored as.
ModelFolder: TypeAlias = Path | Any


def checked_folder(model: ModelFolder, what: str = "the model") -> Path:
    """Return the model's folder.

    Raises:
        ArgumentError: it is not stored as an MLflow model folder.
    """
    if isinstance(model, Path):
        return model
    raise ArgumentError(
        f"{what} is a {type(model).__module__}.{type(model).__qualname__}, which is not stored as an MLflow model "
        "folder: return mlflow_pipes.SignedModel(model, example) from the step that trains it, or save it with "
        "mlflow.pyfunc.save_model and return the folder's pathlib.Path"
    )
