"""Programs that find, lock and build environments: run to their end, their words kept for errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow_pipes.errors import WorldError

_LAST_WORDS = 4000


def output_of(command: Sequence[str], *, what: str, given: str | None = None, cwd: Path | None = None) -> str:
    """Return what a program wrote to stdout.

    Raises:
        WorldError: it cannot be started, or failed: *what* it was to do, and its last words.
    """
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=cwd, env=environ, check=False)
    except OSError as error:
        raise WorldError(f"{what}: cannot start {command[0]}: {error.strerror}") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-_LAST_WORDS:]
        raise WorldError(f"{what}: {Path(command[0]).name} exited with code {done.returncode}\n{words}")
    return done.stdout


def uv() -> str:
    """Return the path of ``uv``: of the package of that name, else of the one on the PATH; empty when there is none."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or ""


def first_of(names: Sequence[str]) -> str:
    """Return the path of the first program that is there, empty for none."""
    return next((path for name in names if (path := shutil.which(name))), "")
