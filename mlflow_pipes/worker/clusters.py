"""A step that uses what it runs on: a cluster of Dask's, or Spark, which compute with functions of its own modules.

Their processes do not have these modules: they outlive runs, and two runs may have two versions of one. So what is sent
there takes the code along, by value.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.step import ImportedFunction
from mlflow_pipes.spark_session import REMOTE

if TYPE_CHECKING:
    from types import ModuleType

    from mlflow_pipes.model.attempt import Assignment

SCHEDULER = "PIPES_DASK_SCHEDULER"
"""The environment variable that a Dask target's attempts have the address of their cluster's scheduler in."""


def join_clusters(assignment: Assignment) -> None:
    """Make ready for a step whose module imports Dask or Spark, on a target that has it; others cost nothing.

    Raises:
        TargetError: the scheduler of Dask's cluster cannot be reached.
    """
    if "dask" in sys.modules and os.environ.get(SCHEDULER):
        importlib.import_module("mlflow_pipes.targets.dask.in_attempt").join(assignment)
    if "pyspark" in sys.modules and os.environ.get(REMOTE):
        cloudpickle = importlib.import_module("pyspark.cloudpickle")  # Spark's own copy, which nobody else uses
        for module in own_modules(assignment):
            cloudpickle.register_pickle_by_value(module)


def own_modules(assignment: Assignment) -> list[ModuleType]:
    """Return the modules that the step's code reaches and that are not installed, as far as they are imported."""
    function = assignment.function
    if not isinstance(function, ImportedFunction):
        return []  # a notebook's functions travel by value anyway
    files = {function.file, *(file for file, _ in function.sources)}
    return [module for module in list(sys.modules.values()) if getattr(module, "__file__", None) in files]


@contextmanager
def by_value(assignment: Assignment, cloudpickle: Any) -> Iterator[None]:
    """Have functions and classes of the step's modules pickled by value meanwhile; values of ours are not made so."""
    known = cloudpickle.list_registry_pickle_by_value()
    modules = [module for module in own_modules(assignment) if module.__name__ not in known]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
