"""Snapshots as machines that run steps unpack them: once, atomically, whoever else is at it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.content.tree import walk
from mlflow_pipes.digests import Hasher
from mlflow_pipes.errors import BlobCorruptError, DatastoreError
from mlflow_pipes.model.step import FunctionReference, ImportedFunction

if TYPE_CHECKING:
    from mlflow_pipes.content.tree import Entry
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.snapshot import Snapshot

_PIECE_BYTES = 1024 * 1024
_UNUSED_S = 7 * 86_400.0
_ABANDONED_S = 86_400.0


class Unpacked:
    """A snapshot that is laid out on this machine.

    Attributes:
        prefix: stands before every path of it, here.
    """

    def __init__(self, snapshot: Snapshot, prefix: str) -> None:
        self._snapshot = snapshot
        self.prefix = prefix

    @property
    def path(self) -> list[str]:
        """What of ``sys.path`` it holds."""
        return [self.prefix + entry for entry in self._snapshot.path]

    @property
    def cwd(self) -> str | None:
        """The folder that stands for the orchestrator's working folder; None when it is not in the snapshot."""
        folder = self.prefix + self._snapshot.cwd
        return folder if Path(folder).is_dir() else None

    def moved(self, function: FunctionReference) -> FunctionReference:
        """Return a function as it is found here."""
        if not isinstance(function, ImportedFunction):
            return function
        sources = tuple((self.prefix + file, expected) for file, expected in function.sources)
        return replace(function, file=self.prefix + function.file, root=self.prefix + function.root, sources=sources)

    def told(self, text: str) -> str:
        """Return a text about code here with the paths that the user knows."""
        return text.replace(self.prefix, "") if self.prefix in text else text


def unpack(snapshot: Snapshot, datastore: Datastore, folder: Path) -> Unpacked:
    """Return a snapshot laid out below *folder*; at once when it is there already.

    Raises:
        DatastoreError: it cannot be read, or there is no room for it here.
    """
    place = folder / snapshot.root.hash[:32]
    try:
        if not place.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _remove_old(folder)
            _unpack(snapshot, datastore, place)
        os.utime(place)  # in use
    except OSError as error:
        raise DatastoreError(
            f"cannot unpack the code snapshot below {folder}: {error.strerror or error}. Check space and permissions."
        ) from error
    return Unpacked(snapshot, str(place))


def _unpack(snapshot: Snapshot, datastore: Datastore, place: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=place.parent))
    try:
        for path, entry in walk(datastore.read(snapshot.root), datastore):
            _make(fresh / path, entry, datastore)
        try:
            fresh.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _make(path: Path, entry: Entry, datastore: Datastore) -> None:
    if entry.kind == "folder":
        path.mkdir()
        return
    hasher = Hasher()
    with datastore.open(entry.digest) as blob, path.open("xb") as file:
        while piece := blob.read(_PIECE_BYTES):
            hasher.update(piece)
            file.write(piece)
    if hasher.digest() != entry.digest:
        raise BlobCorruptError(f"blob {entry.digest} is corrupt: its bytes have another hash", entry.digest)
    path.chmod(0o555 if entry.executable else 0o444)


def _remove_old(folder: Path) -> None:
    """Remove what was not used for long, and what killed processes left."""
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            stays_s = _ABANDONED_S if entry.name.startswith(".unpacking-") else _UNUSED_S
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - stays_s:
                    shutil.rmtree(entry.path, ignore_errors=True)
