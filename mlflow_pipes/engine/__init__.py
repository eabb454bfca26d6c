"""The loop that turns commands into calls on ports and their answers into events. It decides nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_pipes.engine.inputs import Inputs
    from mlflow_pipes.engine.loop import Engine
    from mlflow_pipes.engine.run_ids import ids_in_order, random_id

_HOME = {"Engine": "loop", "Inputs": "inputs", "ids_in_order": "run_ids", "random_id": "run_ids"}

__all__ = ["Engine", "Inputs", "ids_in_order", "random_id"]


def __getattr__(name: str) -> Any:
    # A run starts its targets before it imports the loop.
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
