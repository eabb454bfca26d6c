"""The target that runs attempts on the workers of a Dask cluster (extra ``dask``)."""

from __future__ import annotations

from mlflow_pipes.targets.dask.target import DaskTarget

__all__ = ["DaskTarget"]
