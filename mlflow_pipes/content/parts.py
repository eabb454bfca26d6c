"""Parts of artifacts: the item that a consumer depends on, and the blobs that an artifact needs."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import Manifest, root_blob
from mlflow_pipes.content.loading import load
from mlflow_pipes.content.records import fields_of, is_record
from mlflow_pipes.content.registry import named
from mlflow_pipes.content.storing import store
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError, NotFoundError, suggest
from mlflow_pipes.model.artifact import Artifact, Collection, Leaf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_pipes.digests import Digest
    from mlflow_pipes.ports import Datastore

# Mapping over the items of a plain list selects each: the list is decoded once for a row of selections.
_KEPT = 4
_decoded: OrderedDict[str, Any] = OrderedDict()


def select(artifact: Artifact, path: Sequence[str | int], datastore: Datastore) -> Artifact:
    """Return the artifact of a part: fields of records, keys of dicts, positions of lists and tuples.

    The part of plain data has the identity that the same value has as a literal.

    Raises:
        NotFoundError: there is no such part; names near ones.
        BlobMissingError, BlobCorruptError: the blob that holds it cannot be used.
    """
    for depth, key in enumerate(path):
        if isinstance(artifact, Leaf):
            return _select_inside(artifact, path, depth, datastore)
        artifact = _item(artifact, key, path[:depth])
    return artifact


def _item(artifact: Collection, key: str | int, before: Sequence[str | int]) -> Artifact:
    where = "output" + "".join([f"[{part!r}]" for part in before])
    if artifact.keys:
        for name, item in zip(artifact.keys, artifact.items, strict=True):
            if name == key and type(name) is type(key):
                return item
        if artifact.kind == "dict" or not isinstance(key, int):
            hint = suggest(str(key), [str(name) for name in artifact.keys])
            kind = "field" if artifact.kind == "record" else "key"
            raise NotFoundError(f"{where} has no {kind} {key!r}{hint}")
    if not isinstance(key, int) or not -len(artifact.items) <= key < len(artifact.items):
        raise NotFoundError(f"{where} is a {artifact.kind} of {len(artifact.items)} and has no item {key!r}")
    return artifact.items[key]


def _select_inside(leaf: Leaf, path: Sequence[str | int], depth: int, datastore: Datastore) -> Artifact:
    if leaf.codec not in {"json", "pickle"}:
        before = "".join([f"[{part!r}]" for part in path[:depth]])
        raise NotFoundError(
            f"output{before} is stored as one {leaf.codec} ({leaf.form}), so no part {path[depth]!r} of it can be "
            f"depended on; pass it whole, or return a named tuple or dict of its parts"
        )
    value = _decoded_value(leaf, datastore)
    for position in range(depth, len(path)):
        value = _part(value, path[position], path[:position])
    return store(value, datastore)


def _decoded_value(leaf: Leaf, datastore: Datastore) -> Any:
    if leaf.identity in _decoded:
        return _decoded[leaf.identity]
    value = load(leaf, datastore)
    if leaf.codec == "json" and leaf.inline is None:
        _decoded[leaf.identity] = value
        while len(_decoded) > _KEPT:
            _decoded.popitem(last=False)
    return value


def _part(value: Any, key: str | int, before: Sequence[str | int]) -> Any:
    where = "output" + "".join([f"[{part!r}]" for part in before])
    if isinstance(value, dict):
        if key in value:
            return value[key]
        raise NotFoundError(f"{where} has no key {key!r}{suggest(str(key), [str(name) for name in value])}")
    if is_record(value) and isinstance(key, str):
        by_name = dict(zip(*fields_of(value), strict=True))
        if key in by_name:
            return by_name[key]
        raise NotFoundError(f"{where} has no field {key!r}{suggest(key, list(by_name))}")
    if isinstance(value, list | tuple | range) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    raise NotFoundError(f"{where} is a {type(value).__name__}{size} and has no part {key!r}")


def items_of(artifact: Artifact, datastore: Datastore) -> tuple[tuple[str | int, ...] | None, list[Artifact]] | None:
    """Return the keys (None but for a dict) and the items of a list, tuple or dict; None for anything else.

    Each item has the identity that it has alone.

    Raises:
        BlobMissingError, BlobCorruptError: the blob that holds them cannot be used.
    """
    if isinstance(artifact, Collection):
        if artifact.kind == "record":
            return None
        return (artifact.keys if artifact.kind == "dict" else None), list(artifact.items)
    if artifact.codec not in {"json", "pickle"}:
        return None
    value = load(artifact, datastore)
    if isinstance(value, dict):
        return tuple(value), [store(item, datastore) for item in value.values()]
    if isinstance(value, list | tuple | range):
        return None, [store(item, datastore) for item in value]
    return None


def blobs_of(artifact: Artifact, datastore: Datastore) -> set[Digest]:
    """Return the digests of all blobs that loading an artifact needs; none for what it carries inline.

    A manifest that is missing or corrupt is itself in the answer, and what only it could name is not: ``has`` or
    the first read then tells.
    """
    found: set[Digest] = set()
    for leaf in leaves_of(artifact):
        try:
            found |= _blobs_of_leaf(leaf, datastore)
        except (BlobMissingError, BlobCorruptError):
            found |= {leaf.digest} if leaf.inline is None else set()
            found |= {leaf.layout} if leaf.layout is not None else set()
    return found


def is_whole(artifact: Artifact, datastore: Datastore) -> bool:
    """Tell whether all that an artifact needs is there, with the right sizes, and its manifests can be read.

    Bytes are not verified: the first read does that.
    """
    needed: set[Digest] = set()
    try:
        for leaf in leaves_of(artifact):
            needed |= _blobs_of_leaf(leaf, datastore)
    except (BlobMissingError, BlobCorruptError):
        return False
    return not needed or datastore.has(needed) >= needed


def leaves_of(artifact: Artifact) -> Iterator[Leaf]:
    """Yield the leaves of an artifact."""
    waiting: list[Artifact] = [artifact]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Collection):
            waiting.extend(one.items)
        else:
            yield one


def _blobs_of_leaf(leaf: Leaf, datastore: Datastore) -> set[Digest]:
    found = set() if leaf.inline is not None else {leaf.digest}
    codec = named(leaf.codec)
    if leaf.layout is not None:
        found.add(leaf.layout)
    if _is_manifest(type(codec)):
        assert isinstance(codec, Manifest)
        names = root_blob(leaf, datastore) if leaf.layout is None else datastore.read(leaf.layout)
        found |= codec.blobs(names, datastore)
    return found


@functools.cache
def _is_manifest(codec: type) -> bool:
    """Whether codecs of a class name further blobs; asked once a class, since asking a protocol is slow."""
    return issubclass(codec, Manifest)
