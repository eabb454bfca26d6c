"""Where names are looked up: in a module that is loaded, or in one that is only read.

A function's globals are the live module's: what its constants are *now* is what counts. A module that code imports
inside a function may not be loaded yet, and reading it must not run it; it is always read from its source, loaded or
not, so that the answer does not depend on what else the process did before.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, TypeAlias

from mlflow_pipes.fingerprint.distributions import distribution_of, own_distribution
from mlflow_pipes.fingerprint.project import (
    MAIN_NAMES,
    OWN_PACKAGES,
    STEP_LIBRARY,
    absolute,
    is_first_party,
    is_installed,
    is_stdlib,
    natural_name,
    project_folder,
    top_level,
)
from mlflow_pipes.fingerprint.reach import External, Target
from mlflow_pipes.fingerprint.source import Source


@dataclass(frozen=True)
class LiveScope:
    """The names that a live function or class sees.

    Attributes:
        variables: the module's globals.
        closure: the free variables of enclosing functions, by name.
        source: the module's source, None when there is none.
        owner: readable name of the definition that looks, for messages.
        nested: whether it stands inside a function, so that a name not found is our ignorance, not the user's slip.
    """

    variables: Mapping[str, Any]
    source: Source | None
    owner: str = ""
    closure: Mapping[str, Any] = field(default_factory=dict)
    nested: bool = False

    @cached_property
    def module(self) -> str:
        """The module's natural name."""
        return natural_of(self.variables, self.source)[0]

    @cached_property
    def folder(self) -> str:
        """The folder from which the module is imported."""
        return natural_of(self.variables, self.source)[1]

    @cached_property
    def root(self) -> str:
        """The project's folder; empty when there is no file."""
        return project_folder(self.source.file) if self.source and self.source.on_disk else ""

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return _package(self.module, self.source)


@dataclass(frozen=True)
class ReadScope:
    """The names that a definition in a module that was only read sees."""

    source: Source
    module: str
    folder: str
    owner: str = ""

    @cached_property
    def root(self) -> str:
        """The project's folder."""
        return project_folder(self.source.file)

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return _package(self.module, self.source)


Scope: TypeAlias = LiveScope | ReadScope


def natural_of(variables: Mapping[str, Any], source: Source | None) -> tuple[str, str]:
    """Return the natural name of a module and its folder, from its globals."""
    name = str(variables.get("__name__", ""))
    if source is None or not source.on_disk:
        return name, ""
    natural, folder = natural_name(name, source.file, variables.get("__spec__"))
    return natural, str(folder)


def _package(module: str, source: Source | None) -> str:
    if source is not None and source.file.endswith("/__init__.py"):
        return module
    return module.rpartition(".")[0]


def absolute_name(module: str, level: int, package: str) -> str:
    """Return the full name of a module that an import names with *level* leading dots."""
    if not level:
        return module
    parts = package.split(".")
    anchor = ".".join(parts[: len(parts) - level + 1])
    return f"{anchor}.{module}" if module and anchor else module or anchor


class Place(NamedTuple):
    """Where a value was found: what to call it, and what stands for it when it has no encoding."""

    kind: str
    name: str
    scope: Scope
    otherwise: Callable[[], Target] | None = None


class Territory:
    """What is first-party and what counts by version, as seen from one step's function.

    Args:
        own_steps: whether the step stands in our step library itself, which then counts by its code.
    """

    def __init__(self, *, own_steps: bool) -> None:
        self._own_steps = own_steps
        self._external: dict[str, External | None] = {}
        self._files: dict[str, bool] = {}
        self._located: dict[tuple[str, str], str | External | None] = {}

    def is_ours(self, file: str) -> bool:
        """Whether a file counts by its code."""
        known = self._files.get(file)
        if known is None:
            inside = self._own_steps and STEP_LIBRARY in Path(file).parts
            known = self._files[file] = inside or is_first_party(file)
        return known

    def counts_by_version(self, module: str) -> bool:
        """Whether a module, by the name it has in this process, is the interpreter's or a distribution's."""
        return self.external(module) is not None

    def external(self, module: str, member: str = "") -> External | None:
        """Return what stands for a module, or something in it, that counts by version; None for first-party ones."""
        try:
            found = self._external[module]
        except KeyError:
            found = self._external[module] = self._classify(module)
        if found is None or not member:
            return found
        return External(found.distribution, found.version, f"{module}:{member}")

    def _classify(self, module: str) -> External | None:
        top = top_level(module)
        if top in OWN_PACKAGES:
            return None if self._own_steps and top == STEP_LIBRARY else External(*own_distribution(), module)
        if module in MAIN_NAMES:
            return None
        loaded = sys.modules.get(module) or sys.modules.get(top)
        file = _file_of(loaded)
        if file is not None and self.is_ours(file):
            return None
        if is_stdlib(module):
            return python(module)
        if file is None:
            return None
        return self.installed(module, file, getattr(sys.modules.get(top), "__version__", None))

    def installed(self, module: str, file: str, version: object = None) -> External:
        """Return what stands for a module of an installed distribution."""
        distribution = distribution_of(file)
        if distribution is None:
            return External(top_level(module), version if isinstance(version, str) else "unknown", module)
        return External(*distribution, module)

    def locate(self, module: str, near: str) -> str | External | None:
        """Find a module by its full name without running anything.

        Returns:
            The source file of a first-party module (or the folder of a namespace package), what stands for an
            installed one, None when there is no such module.
        """
        key = (module, near)
        if key not in self._located:
            self._located[key] = self._search(module, near)
        return self._located[key]

    def _search(self, module: str, near: str) -> str | External | None:
        top = top_level(module)
        if top in OWN_PACKAGES and not (self._own_steps and top == STEP_LIBRARY):
            return External(*own_distribution(), module)
        spec = PathFinder.find_spec(top, [near]) if near else None
        if spec is None or spec.origin is None:
            if is_stdlib(top):
                return python(module)
            spec = _top_spec(top) or spec
        name = top
        for part in module.split(".")[1:]:
            if spec is None or spec.submodule_search_locations is None or _is_external_spec(spec):
                break
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
        return self._of_spec(module, spec)

    def _of_spec(self, module: str, spec: ModuleSpec | None) -> str | External | None:
        if spec is None:
            return None
        file = spec.origin if spec.has_location else None
        if file is None:
            folders = list(spec.submodule_search_locations or ())
            if not folders:
                return python(module)
            if not is_installed(folders[0]):
                return folders[0]
            return self.installed(module, folders[0])
        return file if self.is_ours(file) else self.installed(module, file)


def _is_external_spec(spec: ModuleSpec) -> bool:
    return spec.has_location and spec.origin is not None and is_installed(spec.origin)


def _top_spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)  # runs nothing for a name without dots
    except (ImportError, ValueError):
        return None


def _file_of(module: ModuleType | None) -> str | None:
    if module is None:
        return None
    variables = vars(module)
    file = variables.get("__file__")
    if isinstance(file, str):
        return file
    for folder in variables.get("__path__", ()):
        return f"{folder}/__init__.py"
    return None


def python(name: str) -> External:
    """Return what stands for a part of the interpreter or its library."""
    return External("python", PYTHON_VERSION, name)


PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def file_of_function(function: FunctionType) -> str | None:
    """Return the absolute file a function was compiled from, None when there is no such file (notebook, ``-c``)."""
    name = function.__code__.co_filename
    module_file = function.__globals__.get("__file__")
    if name.startswith("<"):  # also where ``__file__`` is: ``python - < script.py`` has both as ``<stdin>``
        return None
    if isinstance(module_file, str) and module_file.rpartition(os.sep)[2] == name.rpartition(os.sep)[2]:
        return absolute(module_file)  # co_filename may be relative to a folder left long ago
    return absolute(name) if name.endswith((".py", ".pyw")) and Path(name).is_file() else None


def cell_contents(function: FunctionType) -> dict[str, Any]:
    """Return a function's free variables by name; those not yet assigned are left out."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found
