"""How a worker finds a step's function: by importing it, or by value when it was typed into a notebook."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.fingerprint.objects import step_function
from mlflow_pipes.fingerprint.project import natural_name
from mlflow_pipes.fingerprint.scopes import file_of_function
from mlflow_pipes.model.step import CodeFingerprint, FunctionReference, ImportedFunction, PickledFunction


def reference(function: Any, code: CodeFingerprint) -> FunctionReference:
    """Return how a worker finds a function.

    A function in a file is imported under its natural module name. One without a file (notebook, REPL,
    ``python -c``) and a partial or other callable object travel by value.

    Raises:
        DeclarationError: a lambda or nested function in a file, which no worker can import, or something that
            cannot be pickled.
    """
    plain = step_function(function) or function
    written = inspect.unwrap(plain)  # a decorated function stands where the def below its decorators stands
    if not isinstance(written, FunctionType) or isinstance(plain, MethodType):
        return _by_value(plain)
    file = file_of_function(written)
    if file is None:
        return _by_value(plain)
    qualname = str(getattr(plain, "__qualname__", written.__qualname__))
    if "<" in qualname:
        raise DeclarationError(_not_importable(written, file, qualname))
    name = str(written.__globals__.get("__name__", ""))
    module, root = natural_name(name, file, written.__globals__.get("__spec__"))
    return ImportedFunction(module, qualname, file, str(root), code.sources)


def _not_importable(function: FunctionType, file: str, qualname: str) -> str:
    where = f"{Path(file).name}:{function.__code__.co_firstlineno}"
    if function.__code__.co_name == "<lambda>":
        return (
            f"a lambda ({where}) cannot be a step, because a worker cannot import it. "
            "Write it as a def at the top of a module."
        )
    outer, _, inner = qualname.rpartition(".<locals>.")
    around = outer.replace(".<locals>", "")
    return (
        f"{inner} ({where}) is defined inside {around}, so a worker cannot import it. Move "
        "it to the top of its module, and pass what it took from around it as arguments. (If that is a decorator, let "
        "it use functools.wraps.)"
    )


def _by_value(function: Any) -> PickledFunction:
    import cloudpickle

    plain = function
    while isinstance(plain, partial):
        plain = plain.func
    qualname = str(getattr(plain, "__qualname__", type(plain).__qualname__))
    try:
        return PickledFunction(qualname, cloudpickle.dumps(function, protocol=5))
    except Exception as error:
        raise DeclarationError(
            f"{qualname} must travel to the worker by value, but cannot be pickled: {error}. Make what it holds inside "
            "the function, or move the function to a file."
        ) from error
