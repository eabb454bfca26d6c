"""The target that runs attempts in worker processes of this machine."""

from mlflow_pipes.targets.local.target import LocalTarget

__all__ = ["LocalTarget"]
