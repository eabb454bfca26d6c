"""A step that uses what its worker is part of: a cluster of Dask's."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import AttemptId

SCHEDULER = "PIPES_DASK_SCHEDULER"
"""The environment variable that a Dask target's attempts have the address of their cluster's scheduler in."""


def join_cluster(attempt: AttemptId) -> None:
    """Have Dask compute on the cluster that this attempt runs on, if it does, and if the step's module imports Dask.

    Raises:
        TargetError: its scheduler cannot be reached.
    """
    if "dask" in sys.modules and os.environ.get(SCHEDULER):
        importlib.import_module("mlflow_pipes.targets.dask.in_attempt").join(attempt)
