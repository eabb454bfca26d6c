"""The folder of built environments: each is built once, by one process, and is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, field
from pathlib import Path

from mlflow_pipes.environments.programs import handing_on
from mlflow_pipes.errors import WorldError
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.quick_dataclasses import dataclass

_DONE = "built.json"  # written last: a folder without it is half-built
_PLAN = ".recipe.json"
_LONGEST_BUILD_S = 3600.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that an environment is built from on this machine.

    Attributes:
        key: names its folder: digest of everything else here but the name.
        name: what people call it.
        kind: which kind it is.
        text: locked requirements, or conda's file.
        support: requirements of ours that are put in beside.
        python: path or version of the interpreter to build with.
        tool: path of the program that builds it; empty for Python's own.
        packages: what will be in it, without *support*.
    """

    key: str
    name: str
    kind: str
    text: str = ""
    support: tuple[str, ...] = ()
    python: str = ""
    tool: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Built:
    """An environment on the shelf.

    Attributes:
        folder: where it is.
        whole: whether it is built; else somebody builds it now, or died doing so.
        built_at, used_at: seconds since the epoch.
        size_bytes: of its files; those that other environments share count in each.
    """

    key: str
    name: str
    kind: str
    folder: str
    whole: bool
    built_at: float
    used_at: float
    size_bytes: int
    packages: Mapping[str, str] = field(default_factory=dict)


class Shelf:
    """Environments in a folder of this machine; safe for several processes at once.

    Args:
        folder: made when the first one is built.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, key: str) -> Path:
        """Return the folder of an environment, there or not."""
        return self.folder / key[:32]

    def is_built(self, key: str) -> bool:
        """Tell whether it is there, whole, and its interpreter still is. Microseconds."""
        return (self.place(key) / _DONE).exists() and interpreter_of(self.place(key)).exists()

    def note(self, recipe: Recipe) -> Path:
        """Write down what is to be built, for the process that will; return the file."""
        file = self.folder / f"{recipe.key[:32]}{_PLAN}"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(asdict(recipe)))
        return file

    def build(self, recipe: Recipe, make: Callable[[Path], None]) -> bool:
        """Build an environment unless it is there; return whether it was built now.

        While another process builds it, this waits for that. What a process left half-built is removed first.

        Raises:
            WorldError: it cannot be built; nothing is left of it.
        """
        if self.is_built(recipe.key):
            return False
        place = self.place(recipe.key)
        what = f"environment {recipe.name!r}"
        with exclusive(self._lock(recipe.key), what=what, timeout_s=_LONGEST_BUILD_S) as lock, handing_on(lock):
            if self.is_built(recipe.key):
                return False
            shutil.rmtree(place, ignore_errors=True)
            try:
                make(place)
                write_whole(place / _DONE, json.dumps({**asdict(recipe), "built_at": time.time()}))
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
        return True

    def used(self, key: str) -> None:
        """Note that an environment is used now."""
        with suppress(OSError):
            os.utime(self.place(key) / _DONE)

    def listing(self) -> list[Built]:
        """Return all environments, those used last first."""
        if not self.folder.is_dir():
            return []
        places = [path for path in self.folder.iterdir() if path.is_dir() and (len(path.name) == 32)]
        return sorted([_built(path) for path in places], key=lambda built: -built.used_at)

    def remove(self, key: str) -> bool:
        """Remove an environment, also a half-built one; return False while somebody builds it.

        Steps that run in it fail: it is for the caller to know that there are none.
        """
        place = self.place(key)
        try:
            with exclusive(self._lock(key), what=f"environment {key[:8]}", timeout_s=0.0):
                (place / _DONE).unlink(missing_ok=True)
                shutil.rmtree(place, ignore_errors=True)
                (self.folder / f"{key[:32]}{_PLAN}").unlink(missing_ok=True)
        except WorldError:
            return False
        return True

    def _lock(self, key: str) -> Path:
        return self.folder / f"{key[:32]}.lock"


def interpreter_of(place: Path) -> Path:
    """Return the Python of a built environment."""
    return place / "bin" / "python"


def _built(place: Path) -> Built:
    try:
        done = json.loads((place / _DONE).read_text(encoding="utf-8"))
        used_at = (place / _DONE).stat().st_mtime
    except (OSError, ValueError):
        moment = place.stat().st_mtime if place.exists() else 0.0
        return Built(place.name, "", "", str(place), whole=False, built_at=0.0, used_at=moment, size_bytes=_size(place))
    return Built(
        done["key"],
        done["name"],
        done["kind"],
        str(place),
        whole=True,
        built_at=done["built_at"],
        used_at=used_at,
        size_bytes=_size(place),
        packages=done["packages"],
    )


def _size(place: Path) -> int:
    total = 0
    for folder, _, files in os.walk(place):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - 100,000 files
    return total
