"""Starts the Python of an environment that is still to be built, or that is in a container, in place of this process.

``launch built RECIPE.json ARGUMENTS...`` or ``launch container PODMAN IMAGE PYTHON ARGUMENTS...``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlflow_pipes.errors import PipesError

CONTROL = "PIPES_CONTROL_FD"
"""Variable with the number of the descriptor that is handed on."""


def main() -> None:
    """Become what was asked for; on failure say why and exit with code 1."""
    _, how, *rest = sys.argv
    try:
        command = _built(*rest) if how == "built" else _in_container(*rest)
        os.execv(command[0], command)  # noqa: S606 - that is its purpose
    except (PipesError, OSError) as error:
        sys.exit(str(error))


def _built(note: str, *arguments: str) -> list[str]:
    from mlflow_pipes.environments.environments import build_recipe, recipe_in
    from mlflow_pipes.environments.shelf import Shelf, interpreter_of

    recipe = recipe_in(Path(note))
    shelf = Shelf(Path(note).parent)
    build_recipe(recipe, shelf)
    return [str(interpreter_of(shelf.place(recipe.key))), *arguments]


def _in_container(podman: str, image: str, python: str, *arguments: str) -> list[str]:
    from mlflow_pipes.environments.containers import FOLDERS, command_of

    folders = os.environ.pop(FOLDERS, "").split(os.pathsep)
    number = int(os.environ[CONTROL])
    if number != 3:  # podman hands on those from 3 upwards
        os.dup2(number, 3, inheritable=True)
        os.close(number)
        os.environ[CONTROL] = "3"
    return command_of(podman, image, python, arguments, os.environ, folders)


if __name__ == "__main__":
    main()
