"""A user's Python file, imported by the name that workers and other runs know it by."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mlflow_pipes.errors import ConfigurationError, DeclarationError, PipesError
from mlflow_pipes.fingerprint.project import is_stdlib, natural_module, top_level


class FileFailedError(DeclarationError):
    """The user's file raised while it was imported, or while its pipeline function ran; the cause says what."""


def import_file(file: Path) -> ModuleType:
    """Import a file under its natural module name, so that workers and other runs import it by the same name.

    Raises:
        ConfigurationError: the name belongs to another module.
        FileFailedError: the file raised.
    """
    if file.suffix != ".py":
        raise ConfigurationError(f"{file} is not a Python file (.py)")
    name, root = natural_module(file)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(
            f"{file} cannot be imported, because {name!r} is no module name: use letters, digits and _ in file names"
        )
    from mlflow_pipes.worker.context import importing

    importlib.invalidate_caches()
    _check_name_is_free(name, file)  # before the file's folder is on the path: there it hides whatever has its name
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    with told_as_users(f"{file} failed while it was imported"), importing(name):
        return importlib.import_module(name)


def _check_name_is_free(name: str, file: Path) -> None:
    known = sys.modules.get(name)
    origin = getattr(known, "__file__", None)
    if known is None and not is_stdlib(name):
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(name) if "." not in name else None
            origin = spec.origin if spec is not None else None
    if (known is not None or origin is not None or is_stdlib(name)) and not same_file(origin, file):
        where = f"{origin}" if origin else f"the module {top_level(name)!r} of Python"
        raise ConfigurationError(f"{file} would be imported as {name!r}, but that is {where}; rename the file")


def same_file(origin: str | None, file: Path) -> bool:
    """Tell whether a module's file is that file."""
    return origin is not None and os.path.realpath(origin) == os.path.realpath(file)


@contextmanager
def told_as_users(what: str) -> Iterator[None]:
    """Whatever the user's own code raises is told with their frames, never with ours."""
    try:
        yield
    except PipesError:
        raise
    except SystemExit as error:
        raise FileFailedError(
            f'{what}: it called sys.exit({error.code!r}); put that under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:
        raise FileFailedError(f"{what}: {type(error).__name__}: {error}") from error
