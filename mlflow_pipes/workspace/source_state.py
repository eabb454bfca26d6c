"""The project's git state: one ``git status`` and one look at its configuration, a few milliseconds each."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.model.run import SourceState

_TIMEOUT_S = 10.0
_AT_LEAST_S = 1.0  # for an answer that was given long ago to be read


class SourceLook:
    """Asks git about the repository that *folder* is in; both questions at once, beside whatever else is done.

    As a context manager it ends what was not waited for.
    """

    def __init__(self, folder: Path, timeout_s: float = _TIMEOUT_S) -> None:
        self._deadline = time.monotonic() + timeout_s
        # Untracked files do not count as dirty: notebooks and data lie around in every project.
        self._status = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
        self._remote = _git(folder, "config", "--get", "remote.origin.url")

    def state(self) -> SourceState:
        """Return commit, branch, remote and dirty flag; empty without git, or when it does not answer in time."""
        status = self._answer(self._status)
        state = SourceState() if status is None else parse_status(status)
        if not state.commit:
            return state
        remote = self._answer(self._remote) or ""
        remote = without_credentials(remote.strip().partition("?")[0])
        return SourceState(state.commit, state.branch, remote, state.dirty)

    def _answer(self, process: subprocess.Popen[bytes] | None) -> str | None:
        if process is None:
            return None
        try:
            answer, _ = process.communicate(timeout=max(_AT_LEAST_S, self._deadline - time.monotonic()))
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.decode("utf-8", "replace") if process.returncode == 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self._status, self._remote):
            if process is not None and process.returncode is None:
                process.kill()
                assert process.stdout is not None
                process.stdout.close()
                with suppress(subprocess.TimeoutExpired):  # on a file system that hangs not even SIGKILL ends it
                    process.wait(_AT_LEAST_S)


def source_state(folder: Path) -> SourceState:
    """Return the git state of the repository that *folder* is in."""
    with SourceLook(folder) as look:
        return look.state()


def parse_status(text: str) -> SourceState:
    r"""Read what ``git status --porcelain=v2 --branch`` printed.

    >>> parse_status("# branch.oid 1a2b\n# branch.head main\n1 .M N... a.py").dirty
    True
    """
    commit = branch = ""
    dirty = False
    for line in text.splitlines():
        if line.startswith("# branch.oid "):
            commit = line.removeprefix("# branch.oid ")
        elif line.startswith("# branch.head "):
            branch = line.removeprefix("# branch.head ")
        elif line and not line.startswith(("#", "?", "!")):
            dirty = True
    return SourceState(
        commit="" if commit == "(initial)" else commit,
        branch="" if branch == "(detached)" else branch,
        dirty=dirty,
    )


def _git(folder: Path, *arguments: str) -> subprocess.Popen[bytes] | None:
    # --no-optional-locks: a look must not get in the way of a commit made at the same time.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        return None
