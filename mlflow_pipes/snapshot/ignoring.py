"""Which files of a project belong to its snapshot: ``.pipesignore`` says, else ``.gitignore``, in git's language."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".pipesignore", ".gitignore")

# Never code: what tools leave, and what belongs to one machine. No pattern brings them back.
_NEVER_FOLDERS = frozenset({
    ".git", ".hg", ".svn", "__pycache__", ".pipes", ".venv", ".tox", ".nox", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", ".idea", ".vscode", "node_modules", "mlruns",
})  # fmt: skip
_NEVER_ENDINGS = (".pyc", ".pyo")
_Specs: TypeAlias = "tuple[tuple[str, GitIgnoreSpec], ...]"


def project_files(project: Path, excluded: AbstractSet[str] = frozenset()) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (absolute path, status) of each file of a project that is not ignored.

    Links are followed, but not in circles. What cannot be read or is no regular file is left out.

    Args:
        project: its folder.
        excluded: absolute folders that are left out, such as the workspace's.
    """
    name = IGNORE_FILES[0] if (project / IGNORE_FILES[0]).is_file() else IGNORE_FILES[1]
    specs = _above(project, name) if name == IGNORE_FILES[1] else ()
    yield from _walk(str(project), name, specs, excluded, ())


def _walk(
    folder: str, name: str, specs: _Specs, excluded: AbstractSet[str], above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        here = os.stat(folder)  # noqa: PTH116 - thousands of folders
    except OSError:
        return
    if (here.st_dev, here.st_ino) in above or any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    own = next((entry.path for entry in entries if entry.name == name), None)
    specs = (*specs, *_read(own, folder)) if own else specs
    for entry in entries:
        if entry.name.endswith(_NEVER_ENDINGS):
            continue
        try:
            status = entry.stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            is_wanted = entry.name not in _NEVER_FOLDERS and entry.path not in excluded
            if is_wanted and not _is_ignored(entry.path + "/", specs):
                yield from _walk(entry.path, name, specs, excluded, (*above, (here.st_dev, here.st_ino)))
        elif stat.S_ISREG(status.st_mode) and not (
            entry.name.endswith(_NEVER_ENDINGS) or _is_ignored(entry.path, specs)
        ):
            yield entry.path, status


def _is_ignored(path: str, specs: _Specs) -> bool:
    """Ask the nearest file that says anything of a path, as git does."""
    for folder, spec in reversed(specs):
        verdict: Any = spec.check_file(path[len(folder) + 1 :]).include
        if verdict is not None:
            return bool(verdict)
    return False


def _above(project: Path, name: str) -> _Specs:
    """Return what a repository says above the project that stands in it."""
    if (project / ".git").exists():
        return ()
    found: _Specs = ()
    for folder in project.parents:
        if (folder / name).is_file():
            found = (*_read(str(folder / name), str(folder)), *found)
        if (folder / ".git").exists():
            return found
    return ()


def _read(file: str, folder: str) -> _Specs:
    from pathspec import GitIgnoreSpec

    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    return ((folder.rstrip("/"), GitIgnoreSpec.from_lines(lines)),)
