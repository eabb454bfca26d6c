"""Files and folders: a ``pathlib.Path`` stands for what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content import checkout, tree
from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import INLINE_LIMIT_BYTES, Encoded, Stored, Storing
from mlflow_pipes.content.reading import folder_manifest, put_file, status_of

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.artifact import Leaf
    from mlflow_pipes.ports import Datastore


def name_of(path: Path) -> str:
    """Return the name that a path's content is laid out under."""
    name = path.name
    return name if tree.is_plain_name(name) else path.resolve().name or "root"


class FileCodec:
    """Codec ``file``: a file's bytes. The form is its name."""

    name = "file"

    def accepts(self, value: Any) -> bool:
        """Whether it is a path, but not that of a folder."""
        return isinstance(value, Path) and not value.is_dir()

    def encode(self, value: Path, storing: Storing) -> Encoded:
        """Return the file's bytes when they are few; others are in the datastore already."""
        status = status_of(value, storing)
        if status.st_size <= INLINE_LIMIT_BYTES:
            content = value.read_bytes()
            if len(content) == status.st_size:
                return Encoded(content, name_of(value))
        return Encoded(put_file(value, status, storing), name_of(value))

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the path of a read-only file of that name, as text where ``str`` is wanted."""
        leaf = stored.leaf
        inline = bytes(stored.view()) if leaf.inline is not None else None
        path = checkout.lay_out_file(leaf.identity, leaf.form, leaf.digest, inline, stored.datastore, stored.checkout)
        return as_wanted(path, wanted)

    def describe(self, leaf: Leaf) -> str:
        """Return name and size."""
        return f"file {leaf.form}, {leaf.digest.size_bytes:,} bytes"


class TreeCodec:
    """Codec ``tree``: a folder, as the manifest of a Merkle tree. The form is its name."""

    name = "tree"

    def accepts(self, value: Any) -> bool:
        """Whether it is the path of a folder."""
        return isinstance(value, Path) and value.is_dir()

    def encode(self, value: Path, storing: Storing) -> Encoded:
        """Return the root manifest; all below it is in the datastore."""
        manifest, _ = folder_manifest(value, storing)
        return Encoded(manifest, name_of(value))

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the path of a folder of that name, as text where ``str`` is wanted."""
        leaf = stored.leaf
        path = checkout.lay_out_tree(leaf.identity, leaf.form, stored.view(), stored.datastore, stored.checkout)
        return as_wanted(path, wanted)

    def blobs(self, root: memoryview, datastore: Datastore) -> set[Digest]:
        """Return the blobs of everything below."""
        return tree.blobs(root, datastore)

    def describe(self, leaf: Leaf) -> str:
        """Return name and number of files, where the manifest is at hand."""
        if leaf.inline is None:
            return f"folder {leaf.form}"
        count = tree.count_files(leaf.inline)
        return f"folder {leaf.form}, {count:,} file{'' if count == 1 else 's'}"


FILE = FileCodec()
TREE = TreeCodec()


def as_wanted(path: Path, wanted: Any) -> Path | str:
    """Return a path as text where the annotation takes text and no path."""
    kinds = [kind for _, _, kind in asked.names(wanted)]
    return str(path) if str in kinds and not any(issubclass(kind, os.PathLike) for kind in kinds) else path
