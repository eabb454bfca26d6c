"""Where code belongs: the project it stands in, whether it is the user's own, and the name a worker imports it by.

First-party is everything that is neither the standard library nor installed into ``site-packages``: the project
itself, editable installs, folders on ``PYTHONPATH``. Such code has no version, so its source is its identity.
mlflow_pipes and mlflow_pipes_steps always count by version, also when they are installed editable: a user's step must
not change its key because the framework was edited.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import ModuleType

MARKERS = ("pipes.toml", "pyproject.toml", "setup.py", ".git")
STEP_LIBRARY = "mlflow_pipes_steps"
OWN_PACKAGES = frozenset({"mlflow_pipes", STEP_LIBRARY})
MAIN_NAMES = frozenset({"__main__", "__mp_main__"})

_OWN_FOLDER = str(Path(__file__).resolve().parents[1]) + os.sep
_INSTALLED_PARTS = frozenset({"site-packages", "dist-packages"})
_STDLIB_FOLDERS = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALL_FOLDERS = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})


def project_root(file: Path) -> Path:
    """Return the project a file stands in: the nearest folder upwards with a project's mark, else its own folder."""
    return _project_of_folder(Path(file).absolute().parent)


@lru_cache(maxsize=4096)
def project_folder(file: str) -> str:
    """Return :func:`project_root` as text, for an absolute path given as text."""
    return str(project_root(Path(file)))


@lru_cache(maxsize=4096)
def _project_of_folder(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if any((candidate / marker).exists() for marker in MARKERS):
            return candidate
    return folder


def absolute(file: str | Path) -> str:
    """Return an absolute path as text, with symbolic links kept: they may be how a project is laid out."""
    return os.path.abspath(file)  # noqa: PTH100 - a Path costs ten times as much, and this is asked for each function


def is_first_party(file: str | Path) -> bool:
    """Whether a file is the user's own code, rather than Python's, an installed package's or ours."""
    text = absolute(file)
    return not is_installed(text) and not text.startswith(_OWN_FOLDER) and STEP_LIBRARY not in Path(text).parts


@lru_cache(maxsize=16384)
def is_installed(file: str) -> bool:
    """Whether a file belongs to the standard library or to an installed distribution."""
    return (
        not _INSTALLED_PARTS.isdisjoint(Path(file).parts)
        or file.startswith(_INSTALL_FOLDERS)
        or file.startswith(_STDLIB_FOLDERS)
    )


def natural_module(where: ModuleType | Path | str) -> tuple[str, Path]:
    """Return the dotted name a worker imports a module by, and the folder to put on ``sys.path`` for it.

    A script that runs as ``__main__`` gets the name that importing its file would give: its package path where it
    stands in packages, else its stem. So ``python examples/flights.py`` and importing that file agree.

    Raises:
        ValueError: the module has no file.
    """
    if not isinstance(where, ModuleType):
        return _name_of_file(Path(where).absolute())
    file = getattr(where, "__file__", None)
    if file is None:
        raise ValueError(f"module {where.__name__} has no file")
    return natural_name(where.__name__, absolute(file), getattr(where, "__spec__", None))


def natural_name(name: str, file: str, spec: object = None) -> tuple[str, Path]:
    """Return the natural name and root of a module that calls itself *name* and stands in *file*."""
    if name in MAIN_NAMES:
        name = getattr(spec, "name", None) or ""
    return _natural_name(name, file)


@lru_cache(maxsize=4096)
def _natural_name(name: str, text: str) -> tuple[str, Path]:
    file = Path(text)
    parts = name.split(".") if name else []
    where = file.parent if file.name == "__init__.py" else file.with_suffix("")
    if parts and tuple(parts) == where.parts[-len(parts) :]:
        return name, where.parents[len(parts) - 1]
    return _name_of_file(file)


def _name_of_file(file: Path) -> tuple[str, Path]:
    parts = [] if file.name == "__init__.py" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def top_level(module: str) -> str:
    """Return the first part of a dotted name."""
    return module.partition(".")[0]


def is_stdlib(module: str) -> bool:
    """Whether a module comes with the interpreter."""
    return top_level(module) in sys.stdlib_module_names
