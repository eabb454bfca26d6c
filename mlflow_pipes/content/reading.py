"""Files and folders of this machine into blobs: read once, remembered, never torn."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.content.memo import FileState, remember
from mlflow_pipes.content.tree import Entry, encode_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_pipes.content.codec import Storing
    from mlflow_pipes.digests import Digest

_PIECE_BYTES = 1024 * 1024
_TRIES = 3
_KINDS = {
    stat.S_ISSOCK: "a socket",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def status_of(path: Path, storing: Storing) -> os.stat_result:
    """Return the status of a file or folder behind any links; refuses what is neither, or not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            storing.refuse(
                f"{path} is a symbolic link to {path.readlink()}, which does not exist; remove it or mend it"
            )
        storing.refuse(f"there is no file or folder {path}; write it before it is passed on, or correct the path")
    except OSError as error:
        storing.refuse(f"cannot read {path}: {error.strerror or error}")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        kind = next((name for test, name in _KINDS.items() if test(status.st_mode)), "of an unknown kind")
        storing.refuse(f"{path} is {kind}; only files and folders can be stored")
    return status


def put_file(path: Path, status: os.stat_result, storing: Storing) -> Digest:
    """Return the digest of a file whose bytes are in the datastore; not read when the memo knows it and it is there."""
    state = FileState.of(status)
    if storing.memo is not None:
        known = storing.memo.get(state)
        if known is not None and storing.datastore.has((known,)):
            return known
    for _ in range(_TRIES):
        try:
            with path.open("rb", buffering=0) as file:
                before = FileState.of(os.fstat(file.fileno()))
                digest = storing.datastore.put(_pieces(file.fileno(), before.size_bytes))
                after = FileState.of(os.fstat(file.fileno()))
        except OSError as error:
            storing.refuse(f"cannot read {path}: {error.strerror or error}")
        if before == after and digest.size_bytes == before.size_bytes:
            remember(storing.memo, before, digest)
            return digest
    return storing.refuse(f"{path} changes while it is read; stop what writes to it, or pass a copy")


def _pieces(descriptor: int, size_bytes: int) -> Iterator[bytes] | tuple[bytes]:
    """Return the bytes of an open file; at once when there are few."""
    if size_bytes < _PIECE_BYTES:
        content = os.read(descriptor, size_bytes + 1)
        return (content,) if len(content) <= size_bytes else _stream(descriptor, content)
    return _stream(descriptor, b"")


def _stream(descriptor: int, first: bytes) -> Iterator[bytes]:
    yield first
    while piece := os.read(descriptor, _PIECE_BYTES):
        yield piece


def folder_manifest(path: Path, storing: Storing, above: tuple[tuple[int, int], ...] = ()) -> tuple[bytes, int]:
    """Return the manifest of a folder, and the number of files in it; everything below is in the datastore."""
    here = path.stat()
    if (here.st_dev, here.st_ino) in above:
        storing.refuse(f"{path} is a symbolic link to a folder that it stands in; remove it")
    above = (*above, (here.st_dev, here.st_ino))
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208 - names, not paths
    except OSError as error:
        storing.refuse(f"cannot read folder {path}: {error.strerror or error}")
    entries = []
    for name in names:
        child = path / name
        status = status_of(child, storing)
        if stat.S_ISDIR(status.st_mode):
            manifest, files = folder_manifest(child, storing, above)
            entries.append(Entry(name, "folder", storing.datastore.put((manifest,)), files=files))
        else:
            digest = put_file(child, status, storing)
            entries.append(Entry(name, "file", digest, bool(status.st_mode & stat.S_IXUSR)))
    return encode_manifest(entries), sum(entry.files for entry in entries)
