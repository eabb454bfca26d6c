"""Files and folders laid out for reading: ``checkout/<identity>/<name>``, shared by all who read the same content.

Laid out under another name and renamed into place, so nobody sees half of it and racing readers agree. Small and
executable files are copies; large ones are hard links to the datastore's read-only blobs (symbolic links or copies
where the filesystem cannot), which costs neither time nor space.

A step must not write there; files are read-only, but the superuser is not held by that. So before anything laid out
earlier is used again, each file's status is compared with what was laid out: copies carry a fixed time, links must
still be the verified blob. What was tampered with is laid out anew; a blob written through a link fails its
verification, as any corrupt blob.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.content.tree import Entry, is_plain_name, walk
from mlflow_pipes.digests import Digest, Hasher
from mlflow_pipes.errors import BlobCorruptError, DatastoreError
from mlflow_pipes.ports import Datastore, LocalFiles

if TYPE_CHECKING:
    from collections.abc import Iterable

COPIED_BYTES = 64 * 1024
_LAID_OUT_NS = 315_532_800 * 1_000_000_000  # 1980-01-01, the earliest time that zip archives can hold
_PIECE_BYTES = 1024 * 1024


@lru_cache(maxsize=1)
def _own_folder(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mlflow_pipes-checkout-"))
    atexit.register(_remove_own, folder, process)
    return folder


def _remove_own(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def lay_out_file(
    identity: str, name: str, digest: Digest, inline: bytes | None, datastore: Datastore, checkout: Path | None
) -> Path:
    """Return a read-only file of that name with a blob's content."""
    return _lay_out(identity, name, [("", Entry(name, "file", digest))], {digest: inline}, datastore, checkout)


def lay_out_tree(identity: str, name: str, root: memoryview, datastore: Datastore, checkout: Path | None) -> Path:
    """Return a folder of that name with a tree's files, read-only."""
    entries = [("", Entry(name, "folder", Digest("", 0))), *walk(root, datastore)]
    return _lay_out(identity, name, entries, {}, datastore, checkout)


def _lay_out(
    identity: str,
    name: str,
    entries: list[tuple[str, Entry]],
    inline: dict[Digest, bytes | None],
    datastore: Datastore,
    checkout: Path | None,
) -> Path:
    if not is_plain_name(name):
        raise BlobCorruptError(f"an artifact has the file name {name!r}, which would leave its folder")
    folder = (checkout or _own_folder(os.getpid())).absolute()
    place = folder / identity[:32]
    try:
        if _is_intact(place / name, entries, datastore):
            return place / name
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".laying-", dir=folder))
        try:
            for path, entry in entries:
                _make(fresh / name / path if path else fresh / name, entry, inline, datastore)
            _move_into_place(fresh, place, name, entries, datastore)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise DatastoreError(
            f"cannot lay out {name} below {folder}: {error.strerror or error}. Check space and permissions there."
        ) from error
    return place / name


def _move_into_place(
    fresh: Path, place: Path, name: str, entries: list[tuple[str, Entry]], datastore: Datastore
) -> None:
    for _ in range(10):
        try:
            fresh.rename(place)
            return
        except OSError:  # someone laid it out at the same time, or what is there was tampered with
            if _is_intact(place / name, entries, datastore):
                return
            with suppress(OSError):
                away = Path(tempfile.mkdtemp(prefix=".tampered-", dir=place.parent))
                place.rename(away / "was")
            shutil.rmtree(away, ignore_errors=True)
    fresh.rename(place)


def _make(path: Path, entry: Entry, inline: dict[Digest, bytes | None], datastore: Datastore) -> None:
    if entry.kind == "folder":
        path.mkdir()
        return
    content = inline.get(entry.digest)
    if content is None and _is_linked(entry, datastore):
        assert isinstance(datastore, LocalFiles)
        blob = datastore.path(entry.digest)
        for link in (path.hardlink_to, path.symlink_to):
            with suppress(OSError):
                link(blob)
                return
    _copy(path, entry, [content] if content is not None else _verified_pieces(entry.digest, datastore))


def _is_linked(entry: Entry, datastore: Datastore) -> bool:
    return isinstance(datastore, LocalFiles) and entry.digest.size_bytes > COPIED_BYTES and not entry.executable


def _copy(path: Path, entry: Entry, pieces: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
    path.chmod(0o555 if entry.executable else 0o444)
    os.utime(path, ns=(_LAID_OUT_NS, _LAID_OUT_NS))


def _verified_pieces(digest: Digest, datastore: Datastore) -> Iterable[bytes]:
    hasher = Hasher()
    with datastore.open(digest) as file:
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
            yield piece
    if hasher.digest() != digest:
        raise BlobCorruptError(f"blob {digest} is corrupt: its bytes have another hash", digest)


def _is_intact(top: Path, entries: list[tuple[str, Entry]], datastore: Datastore) -> bool:
    """Whether everything laid out is there as it was, and nothing else."""
    expected: dict[Path, set[str]] = {}
    for path, entry in entries:
        here = top / path if path else top
        if entry.kind == "folder":
            expected.setdefault(here, set())
        elif not _is_intact_file(here, entry, datastore):
            return False
        if path:
            expected[here.parent].add(entry.name)
    try:
        return all(set(os.listdir(folder)) == names for folder, names in expected.items())  # noqa: PTH208 - names only
    except OSError:
        return False


def _is_intact_file(path: Path, entry: Entry, datastore: Datastore) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_size != entry.digest.size_bytes:
        return False
    if status.st_mtime_ns == _LAID_OUT_NS and not path.is_symlink():
        return True
    if not _is_linked(entry, datastore):
        return False
    assert isinstance(datastore, LocalFiles)
    return datastore.path(entry.digest).samefile(path)  # raises when the blob is corrupt
