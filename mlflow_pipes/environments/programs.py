"""Programs that find, lock and build environments: run to their end, their words kept for errors."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from mlflow_pipes.errors import WorldError

_LAST_WORDS = 4000
_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)
_handed_on: ContextVar[tuple[int, ...]] = ContextVar("mlflow_pipes_handed_on", default=())


@contextmanager
def handing_on(descriptor: int) -> Iterator[None]:
    """Have the programs that are run in the block hold a lock, too: what they started may outlive this process."""
    token = _handed_on.set((descriptor,))
    try:
        yield
    finally:
        _handed_on.reset(token)


def _die_with_parent() -> None:
    with suppress(AttributeError):  # Linux only; elsewhere the lock must do
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def output_of(command: Sequence[str], *, what: str, given: str | None = None, cwd: Path | None = None) -> str:
    """Return what a program wrote to stdout.

    Raises:
        WorldError: it cannot be started, or failed: *what* it was to do, and its last words.

    It is killed when this process ends before it.
    """
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environ,
            pass_fds=_handed_on.get(),
            preexec_fn=_die_with_parent,  # one system call
            check=False,
        )
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
