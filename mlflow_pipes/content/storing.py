"""From a value to its artifact."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import INLINE_LIMIT_BYTES, Codec, Declined, Encoded, Storing
from mlflow_pipes.content.codecs.plain import CODEC as PLAIN
from mlflow_pipes.content.codecs.plain import encode_plain
from mlflow_pipes.content.codecs.raw import BYTES, TEXT
from mlflow_pipes.content.naming import type_name
from mlflow_pipes.content.records import fields_of, is_record
from mlflow_pipes.content.registry import built_in_for, named, third_party
from mlflow_pipes.digests import Digest, digest_bytes
from mlflow_pipes.errors import UnstorableOutputError
from mlflow_pipes.model.artifact import Artifact, Collection, CollectionKind, Leaf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.content.memo import FileMemo
    from mlflow_pipes.ports import Datastore

_DEEPEST = 100
_RAW: dict[type, Codec] = {str: TEXT, bytes: BYTES, bytearray: BYTES}
_COLLECTIONS: dict[type, CollectionKind] = {list: "list", tuple: "tuple", dict: "dict"}


def store(value: Any, datastore: Datastore, *, name: str = "output", memo: FileMemo | None = None) -> Artifact:
    """Return a value's artifact, with its blobs in the datastore.

    Plain data is one leaf; lists, tuples and dicts that hold anything else, named tuples and dataclasses are stored
    item by item. Leaves of at most ``INLINE_LIMIT_BYTES`` touch no datastore.

    Args:
        value: what a step returned, or a literal argument.
        datastore: where blobs go.
        name: what the value is called in errors.
        memo: digests of files hashed before.

    Raises:
        UnstorableOutputError: something in it cannot be stored; names the path to it, its type and the remedy.
        DatastoreError: the datastore cannot be written.
    """
    kind = type(value)
    if kind is int:
        if -1_000_000 < value < 1_000_000:
            return _small_int(value)
    elif kind is str:
        if len(value) <= 64:
            return _short_text(value)
    elif kind is float:
        if isfinite(value):
            return _inline("json", repr(value).encode("ascii"))
    elif value is None or kind is bool:
        return _constant(value)
    try:
        return _store(value, datastore, memo, name, 0)
    except RecursionError:
        raise UnstorableOutputError(
            f"{name} is nested too deeply, or contains itself; return a flatter value, or write it to a file and "
            f"return its pathlib.Path"
        ) from None


# A pipeline repeats its literals over thousands of nodes. One cache a type: 1, 1.0 and True are equal keys.
@lru_cache(maxsize=4096)
def _small_int(value: int) -> Leaf:
    return _inline("json", b"%d" % value)


@lru_cache(maxsize=4096)
def _short_text(value: str) -> Leaf:
    return _inline("text", value.encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=3)
def _constant(value: bool | None) -> Leaf:
    return _inline("json", encode_plain(value))


def _inline(codec: str, blob: bytes) -> Leaf:
    return Leaf(codec, digest_bytes(blob), "", blob)


def _store(value: Any, datastore: Datastore, memo: FileMemo | None, where: str, depth: int) -> Artifact:  # noqa: PLR0911
    if depth > _DEEPEST:
        raise RecursionError
    kind: Any = type(value)
    if kind in _RAW:
        raw = _RAW[kind]
        return _leaf(raw.name, raw.encode(value, Storing(datastore, memo, where)), datastore)
    if PLAIN.accepts(value):
        try:
            return _leaf("json", PLAIN.encode(value), datastore)
        except Declined:
            pass
        if kind in {list, tuple}:
            return _collection(_COLLECTIONS[kind], (), value, datastore, memo, where, depth)
        if kind is dict and set(map(type, value)) <= {str, int}:
            return _collection("dict", tuple(value), list(value.values()), datastore, memo, where, depth)
    storing = Storing(datastore, memo, where)
    leaf = _first(built_in_for(value), value, storing)
    if leaf is not None:
        return leaf
    if is_record(value):
        try:
            keys, values = fields_of(value)
        except AttributeError as error:
            storing.refuse(
                f"the {kind.__name__} has no value for its field {error}; set every field before returning it"
            )
        return _collection("record", keys, values, datastore, memo, where, depth, type_name(kind))
    return _first([*third_party(), named("pickle")], value, storing) or storing.refuse(f"no codec takes a {kind}")


def _collection(
    kind: CollectionKind,
    keys: tuple[Any, ...],
    values: Sequence[Any],
    datastore: Datastore,
    memo: FileMemo | None,
    where: str,
    depth: int,
    type_name: str = "",
) -> Collection:
    items = []
    for position, value in enumerate(values):
        step = f"[{position}]" if not keys else f".{keys[position]}" if kind == "record" else f"[{keys[position]!r}]"
        items.append(_store(value, datastore, memo, where + step, depth + 1))
    return Collection(kind, tuple(items), keys, type_name)


def _first(codecs: Sequence[Codec], value: Any, storing: Storing) -> Leaf | None:
    """Return the leaf of the first codec that takes a value."""
    for codec in codecs:
        if codec.accepts(value):
            try:
                return _leaf(codec.name, codec.encode(value, storing), storing.datastore)
            except Declined:
                continue
    return None


def _leaf(codec: str, encoded: Encoded, datastore: Datastore) -> Leaf:
    """Put a root blob where it belongs: into the leaf when it is small, else into the datastore."""
    pieces = encoded.pieces
    if isinstance(pieces, bytes):
        if len(pieces) <= INLINE_LIMIT_BYTES:
            return Leaf(codec, digest_bytes(pieces), encoded.form, pieces, encoded.layout)
        return Leaf(codec, datastore.put((pieces,)), encoded.form, layout=encoded.layout)
    if isinstance(pieces, Digest):
        return Leaf(codec, pieces, encoded.form, layout=encoded.layout)
    assert encoded.layout is None, "a stream as root has no layout"
    stream = iter(pieces)
    first: list[bytes | memoryview] = []
    size_bytes = 0
    for piece in stream:
        first.append(piece)
        size_bytes += memoryview(piece).nbytes
        if size_bytes > INLINE_LIMIT_BYTES:
            return Leaf(codec, datastore.put(chain(first, stream)), encoded.form)
    content = b"".join(first)
    return Leaf(codec, digest_bytes(content), encoded.form, content)
