"""The loop that turns commands into calls on ports and their answers into events. It decides nothing."""

from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.loop import Engine
from mlflow_pipes.engine.recorder import random_id

__all__ = ["Engine", "Inputs", "random_id"]
