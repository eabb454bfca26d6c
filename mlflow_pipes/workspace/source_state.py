"""The project's git state: one ``git status`` and one look at its configuration, a few milliseconds each."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.model.run import SourceState

_TIMEOUT_S = 10.0


def source_state(folder: Path) -> SourceState:
    """Return commit, branch, remote and dirty flag of the repository that *folder* is in; empty without git."""
    # Untracked files do not count as dirty: notebooks and data lie around in every project.
    status = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return SourceState()
    state = parse_status(status)
    if not state.commit:
        return state
    remote = _git(folder, "config", "--get", "remote.origin.url") or ""
    return SourceState(state.commit, state.branch, without_credentials(remote.strip().partition("?")[0]), state.dirty)


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


def _git(folder: Path, *arguments: str) -> str | None:
    # --no-optional-locks: a look must not get in the way of a commit made at the same time.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
