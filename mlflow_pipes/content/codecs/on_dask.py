"""What codecs have Dask do: calls of our functions, on workers that have our code, by a scheduler that may not.

A scheduler reads the graphs that it is sent. So what we put into one is pickled without a name of ours in it: functions
by value (they are made inside others, which cannot be named), the datastore as bytes that only workers read.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import ComputingError
from mlflow_pipes.errors import PipesError

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore


class Reached:
    """A datastore, in a graph. Called, it gives the datastore: this one here, one that was sent elsewhere."""

    def __init__(self, datastore: Datastore) -> None:
        self._datastore = datastore

    def __call__(self) -> Datastore:
        """Return the datastore."""
        return self._datastore

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call that is to be made, so that a scheduler need not know the class."""
        return functools.partial, (pickle.loads, pickle.dumps(self._datastore, 5))

    def __dask_tokenize__(self) -> Any:
        """Return what tells it from others: Dask takes tasks of one token for one."""
        try:
            return "mlflow_pipes.datastore", pickle.dumps(self._datastore, 5)
        except Exception:  # noqa: BLE001 - one that cannot be sent is told from others by being another object
            return "mlflow_pipes.datastore", id(self._datastore)


def writer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for a graph that calls one of ours with what it is given."""
    module, name = function.__module__, function.__name__

    def write(*arguments: Any) -> Any:
        import importlib

        return getattr(importlib.import_module(module), name)(*arguments)

    return write


def reader(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same for one that reads a part; Dask's optimizer sees that it can read some columns only."""
    module, name = function.__module__, function.__name__

    def read(*arguments: Any, columns: Any = None, **options: Any) -> Any:
        import importlib

        return getattr(importlib.import_module(module), name)(*arguments, columns=columns, **options)

    return read


def block_reader(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same for one that reads a block of an array; Dask tells it which."""
    module, name = function.__module__, function.__name__

    def read(*, block_id: Any, **options: Any) -> Any:
        import importlib

        return getattr(importlib.import_module(module), name)(block_id, **options)

    return read


def computed(calls: Sequence[Any]) -> tuple[Any, ...]:
    """Compute delayed calls where Dask does by default: on the cluster that is connected, else in threads here.

    Raises:
        ComputingError: a task failed.
        PipesError: one of ours did.
    """
    import dask

    try:
        found: tuple[Any, ...] = dask.compute(*calls)
    except PipesError:
        raise
    except Exception as error:
        raise ComputingError(error) from error
    return found
