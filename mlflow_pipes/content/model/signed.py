"""A model together with what it takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class SignedModel:
    """A model that a service can check its input against: return it from a training step.

    Stored as an MLflow model folder whose ``MLmodel`` has the signature, inferred from *example* as
    ``mlflow.models.infer_signature`` does. Loaded, it is a ``SignedModel`` again; a consumer that annotates the
    model's own class gets the bare model, one that annotates ``pathlib.Path`` the folder, for ``mlflow.pyfunc``.

    Attributes:
        model: the fitted model; has ``predict``.
        example: some rows as the model takes them, without the target (a DataFrame). All of them tell the types, and
            whether values may be missing; the first five are kept.
        signature: MLflow's JSON texts by ``inputs``, ``outputs`` and ``params``; given instead of *example*, or found
            in what was stored.
    """

    model: Any
    example: Any = None
    signature: Mapping[str, str | None] | None = None

    def predict(self, rows: Any, *args: Any, **options: Any) -> Any:
        """Return the model's prediction."""
        return self.model.predict(rows, *args, **options)

    def __getattr__(self, name: str) -> Any:
        """Everything public that this class does not have is the model's."""
        if name.startswith("_") or "model" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.model, name)
