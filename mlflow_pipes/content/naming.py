"""Classes and functions by name, the same in every process: ``module:Qualified.Name``.

A script that runs as ``__main__`` here is imported under its natural name by a worker, and the other way round. A
name written in one process finds the same class in the other.
"""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from mlflow_pipes.errors import NotFoundError

_MAIN = ("__main__", "__mp_main__")
_local_classes: WeakValueDictionary[str, type] = WeakValueDictionary()  # those that no module's attribute names


@lru_cache(maxsize=8)
def _natural_name_of_main(file: str) -> str:
    from mlflow_pipes.fingerprint.project import natural_module

    main = sys.modules["__main__"]
    del file  # the cache's key: tests run several mains in one process
    return natural_module(main)[0]


def main_module_name() -> str:
    """Return the name that a worker imports this process's ``__main__`` by; ``__main__`` where it has no file."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return _natural_name_of_main(file) if file else "__main__"


def type_name(thing: Any) -> str:
    """Return ``module:Qualified.Name`` of a class or function, with ``__main__`` under its natural name."""
    module = thing.__module__
    name = f"{main_module_name() if module in _MAIN else module}:{thing.__qualname__}"
    if "<locals>" in name and isinstance(thing, type):
        _local_classes[name] = thing
    return name


def find(name: str) -> Any:
    """Return the class or function of a ``module:Qualified.Name``.

    Raises:
        NotFoundError: it cannot be imported, or is gone from its module.
    """
    module_name, _, qualname = name.partition(":")
    if "<locals>" in qualname:
        if (found := _local_classes.get(name)) is not None:
            return found
        raise NotFoundError(
            f"{qualname} of module {module_name} is defined inside a function, so another process cannot find it; "
            f"define it at the top level of the module"
        )
    if module_name == main_module_name():
        found = _attribute(sys.modules["__main__"], qualname)
        if found is not None:
            return found
    try:
        module = sys.modules.get(module_name) or importlib.import_module(module_name)
    except ImportError as error:
        raise NotFoundError(
            f"cannot load a value of {qualname}: its module {module_name} cannot be imported ({error}). Was it renamed "
            f"or moved? Run from the project's folder, or run the step again."
        ) from error
    found = _attribute(module, qualname)
    if found is None:
        raise NotFoundError(
            f"cannot load a value of {qualname}: module {module_name} no longer has it. Restore it, or run the step "
            f"again."
        )
    return found


def _attribute(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found
