"""Pipelines that a run configuration has arguments for: whether each is there, as far as that can be known."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.workspace.configuration import find_project
from mlflow_pipes.workspace.run_configuration import RunConfiguration

_MOST_FILES = 2_000
"""A project of more files and folders is not read for a name."""

_OF_PROGRAMS = (".py", ".ipynb")


def check_pipelines(run_configuration: RunConfiguration, pipeline: str, function: Callable[..., Any]) -> None:
    """Refuse arguments for a pipeline that is nowhere, but called nearly as one in the file that is run.

    A run configuration may be for pipelines of several files, of which one is loaded now. So what is called nearly as a
    pipeline there, and as none, is looked for in the project's files; only where no file has the word it is a mistake.

    Raises:
        ConfigurationError: names the near one.
    """
    unknown = run_configuration.parameters.keys() - {pipeline}
    if not unknown:
        return
    known = {pipeline, *_declared_beside(function)}
    for name in sorted(unknown - known):
        near = suggest(name, known)
        if near and not any(_is_mentioned(name, project) for project in _projects_of(run_configuration, function)):
            raise ConfigurationError(
                f"{run_configuration.where}: parameters.{name}: there is no pipeline {name!r}{near} "
                f"(this file has: {', '.join(sorted(known))})"
            )


def _declared_beside(function: Callable[..., Any]) -> Iterator[str]:
    from mlflow_pipes.authoring.pipeline import Pipeline

    module = sys.modules.get(function.__module__)
    for value in list(vars(module).values()) if module is not None else []:
        if isinstance(value, Pipeline):
            yield value.name


def _projects_of(run_configuration: RunConfiguration, function: Callable[..., Any]) -> set[Path]:
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    named = [Path(one).resolve().parent for one in (run_configuration.source, file) if one]
    return {find_project(one) for one in named or [Path.cwd()]}


def _is_mentioned(name: str, project: Path) -> bool:
    """Tell whether a file of the project has the word; also when there are too many to look."""
    word = re.compile(rb"\b" + re.escape(name.encode()) + rb"\b")
    seen = 0
    for folder, folders, files in os.walk(project):
        folders[:] = [one for one in folders if _is_own(Path(folder, one))]
        seen += len(folders) + len(files)
        if seen > _MOST_FILES:
            return True
        if any(_has(Path(folder, file), word) for file in files if file.endswith(_OF_PROGRAMS)):
            return True
    return False


def _is_own(folder: Path) -> bool:
    """Tell whether a folder may have code of the project itself: not a hidden one, nor a virtual environment."""
    return not folder.name.startswith((".", "__pycache__")) and not (folder / "pyvenv.cfg").exists()


def _has(file: Path, word: re.Pattern[bytes]) -> bool:
    try:
        return word.search(file.read_bytes()) is not None
    except OSError:
        return False
