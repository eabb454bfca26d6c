"""Snapshots as orchestrators take them: as little as may be, and never other code than the steps' keys were made of."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mlflow_pipes.content.codec import Storing
from mlflow_pipes.content.reading import put_file
from mlflow_pipes.content.tree import Entry, encode_manifest
from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.fingerprint.project import MARKERS, project_root
from mlflow_pipes.model.step import FunctionReference, ImportedFunction
from mlflow_pipes.snapshot import Snapshot
from mlflow_pipes.snapshot.ignoring import project_files
from mlflow_pipes.worker.sources import SourceChangedError

if TYPE_CHECKING:
    from mlflow_pipes.content import FileMemo
    from mlflow_pipes.ports import Datastore

MOST_FILES = 20_000
MOST_BYTES = 500 * 1024 * 1024
_Folder: TypeAlias = "dict[str, _Folder | Entry]"


class Snapshots:
    """The snapshots of one run.

    The first one is nearly always the only one. Another is taken when a function needs code of a folder that was not
    known to be needed; it holds all that the one before holds. Not thread-safe. Cost: a status a file of the project,
    and reading what the memo does not know.

    Args:
        datastore: where they go.
        memo: digests of files hashed before.
        excluded: folders that are no code although they may stand in a project: workspace, datastore.
    """

    def __init__(self, datastore: Datastore, memo: FileMemo | None = None, excluded: Iterable[Path] = ()) -> None:
        self._storing = Storing(datastore, memo, "snapshot")
        self._excluded = frozenset(str(folder.absolute()) for folder in excluded)
        self._projects: set[Path] = set()
        self._files: set[str] = set()
        self._entries: dict[str, Entry] = {}
        self._known: dict[int, tuple[FunctionReference, FunctionReference]] = {}
        self._latest: Snapshot | None = None

    def shipped(self, function: FunctionReference) -> tuple[Snapshot, FunctionReference]:
        """Return a snapshot that holds all first-party code a function needs, and the function as it travels with it.

        That needs no hashes of sources: they are compared here, with what the snapshot holds.

        Raises:
            SourceChangedError: a file was edited since the function was fingerprinted.
            ConfigurationError: the project is too large to be sent.
            DatastoreError: the snapshot cannot be stored.
        """
        known = self._known.get(id(function))
        if known is None:
            self._cover(function)
            travelling = function
            if isinstance(function, ImportedFunction):
                self._check(function)
                travelling = replace(function, sources=())
            known = self._known[id(function)] = (function, travelling)  # kept alive, so that its id stays its own
        assert self._latest is not None
        return self._latest, known[1]

    def _cover(self, function: FunctionReference) -> None:
        projects, files = set(self._projects), set(self._files)
        if isinstance(function, ImportedFunction):
            for file in {function.file, *(file for file, _ in function.sources)}:
                files.add(file)
                project = project_root(Path(file))
                if _is_project(project):
                    projects.add(project)
                files.update(_package_files(Path(file)))
        else:  # by value: what it imports may stand next to the notebook
            here = project_root(Path.cwd() / "notebook")
            projects |= {here} if _is_project(here) else set()
        if self._latest is None or projects != self._projects or not files <= self._entries.keys():
            self._projects, self._files = projects, files
            self._latest = self._take()

    def _check(self, function: ImportedFunction) -> None:
        for file, expected in function.sources:
            entry = self._entries.get(file)
            if entry is None or entry.digest.hash != expected:
                what = "is gone" if entry is None else "was edited after the run was planned"
                raise SourceChangedError(f"{file} {what}: its code is not what the step's key says. Run again.")

    def _take(self) -> Snapshot:
        found: dict[str, os.stat_result] = {}
        for project in sorted(self._projects):
            for path, status in project_files(project, self._excluded):
                found[path] = status
                if len(found) > MOST_FILES or len(found) % 1000 == 0:
                    _check_size(project, found)
            _check_size(project, found)
        for path in self._files - found.keys():
            try:
                found[path] = os.stat(path)  # noqa: PTH116 - as above
            except OSError:
                continue  # told by whom it is missed
        self._entries = {path: self._entry(path, status) for path, status in found.items()}
        top: _Folder = {}
        for path, entry in self._entries.items():
            *folders, name = path.strip("/").split("/")
            here = top
            for folder in folders:
                deeper = here.setdefault(folder, {})
                assert isinstance(deeper, dict), "a file and a folder of one name cannot both have been found"
                here = deeper
            here[name] = entry
        manifest, files = self._manifest(top)
        root = self._storing.datastore.put((manifest,))
        return Snapshot(root, self._path(), os.getcwd(), files)  # noqa: PTH109 - sent as text

    def _entry(self, path: str, status: os.stat_result) -> Entry:
        digest = put_file(Path(path), status, self._storing)
        return Entry(path.rpartition("/")[2], "file", digest, bool(status.st_mode & stat.S_IXUSR))

    def _manifest(self, folder: _Folder) -> tuple[bytes, int]:
        """Return the manifest of a folder, and the number of files in it; everything below is in the datastore."""
        entries = []
        for name, below in folder.items():
            if isinstance(below, dict):
                manifest, files = self._manifest(below)
                entries.append(Entry(name, "folder", self._storing.datastore.put((manifest,)), files=files))
            else:
                entries.append(below)
        return encode_manifest(entries), sum(entry.files for entry in entries)

    def _path(self) -> tuple[str, ...]:
        folders = {str(Path(file).parent) for file in self._entries}
        held = {str(above) for folder in folders for above in (Path(folder), *Path(folder).parents)}
        entries = dict.fromkeys(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - entries may be archives
        inside = tuple(f"{project}/" for project in self._projects)
        return tuple(
            entry for entry in entries if entry in held and (entry in folders or f"{entry}/".startswith(inside))
        )


def _is_project(folder: Path) -> bool:
    return any((folder / marker).exists() for marker in MARKERS)


def _package_files(file: Path) -> set[str]:
    """Return the ``__init__.py`` of the packages that a module stands in."""
    found = set()
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        found.add(str(folder / "__init__.py"))
    return found


def _check_size(project: Path, found: dict[str, os.stat_result]) -> None:
    size = sum(status.st_size for status in found.values())
    if len(found) <= MOST_FILES and size <= MOST_BYTES:
        return
    sizes: Counter[str] = Counter()
    for path, status in found.items():
        sizes[path.removeprefix(f"{project}/").partition("/")[0]] += status.st_size
    largest = ", ".join(f"{name} ({_mebibytes(amount)})" for name, amount in sizes.most_common(3))
    raise ConfigurationError(
        f"the snapshot of {project} would have more than {MOST_FILES:,} files or {_mebibytes(MOST_BYTES)}, which is "
        f"too much to send to other machines; the largest in it: {largest}. Name what is no code in "
        f"{project}/.pipesignore (written like a .gitignore, whose place it takes)"
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
