"""Folders as Merkle trees: a manifest blob a folder, naming the blobs of its files and the manifests below.

A tree is what a reader of the folder sees: names, contents, and which files are executable. Symbolic links are
followed (so a folder of links to a data lake is keyed by the data), times and other permissions are not kept, empty
folders are.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_pipes.ports import Datastore

FORMAT = "pipes.tree/1"

EntryKind: TypeAlias = Literal["file", "folder"]


class Entry(NamedTuple):
    """One name in a folder.

    Attributes:
        digest: of the file's bytes, or of the manifest of the folder below.
        files: number of files below, 1 for a file; so that a tree is counted without reading all of it.
    """

    name: str
    kind: EntryKind
    digest: Digest
    executable: bool = False
    files: int = 1


def encode_manifest(entries: Iterable[Entry]) -> bytes:
    """Return the canonical manifest of a folder."""
    rows = []
    for entry in sorted(entries, key=lambda entry: entry.name):
        row: dict[str, object] = {"name": entry.name, "kind": entry.kind, "digest": str(entry.digest)}
        if entry.kind == "folder":
            row["files"] = entry.files
        elif entry.executable:
            row["executable"] = True
        rows.append(row)
    return json.dumps({FORMAT: rows}, separators=(",", ":")).encode("ascii")


def decode_manifest(blob: bytes | memoryview) -> list[Entry]:
    """Return the entries of a manifest, by name.

    Raises:
        BlobCorruptError: it is no manifest of this format, or names something outside its folder.
    """
    try:
        plain = json.loads(bytes(blob))
        entries = [
            Entry(
                row["name"],
                "folder" if row["kind"] == "folder" else "file",
                Digest.parse(row["digest"]),
                row.get("executable", False),
                row.get("files", 1),
            )
            for row in plain[FORMAT]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BlobCorruptError(f"a folder's manifest cannot be read: {error}") from error
    for entry in entries:
        if not is_plain_name(entry.name):
            raise BlobCorruptError(f"a folder's manifest has the name {entry.name!r}, which would leave the folder")
    return entries


def is_plain_name(name: str) -> bool:
    """Whether a text names something right inside a folder, and nowhere else."""
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name


def walk(root: memoryview, datastore: Datastore, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield (path relative to the root, entry) of everything in a tree, folders before what is in them."""
    for entry in decode_manifest(root):
        path = prefix + entry.name
        yield path, entry
        if entry.kind == "folder":
            yield from walk(datastore.read(entry.digest), datastore, f"{path}/")


def blobs(root: memoryview, datastore: Datastore) -> set[Digest]:
    """Return the blobs of all files and manifests below a root manifest; those below an absent one are left out."""
    found: set[Digest] = set()
    waiting = [root]
    while waiting:
        for entry in decode_manifest(waiting.pop()):
            if entry.kind == "folder" and entry.digest not in found:
                with suppress(BlobMissingError, BlobCorruptError):
                    waiting.append(datastore.read(entry.digest))
            found.add(entry.digest)
    return found


def count_files(root: bytes | memoryview) -> int:
    """Return the number of files in a tree."""
    return sum(entry.files for entry in decode_manifest(root))
