"""Artifacts: how a value stands in a datastore, and the identity that keys are made of."""

from __future__ import annotations

import base64
import json
from dataclasses import field
from typing import Any, Literal, TypeAlias

from blake3 import blake3

from mlflow_pipes.digests import Digest, digest_record
from mlflow_pipes.quick_dataclasses import dataclass

CollectionKind: TypeAlias = Literal["list", "tuple", "dict", "record"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value, encoded by one codec into one root blob.

    Attributes:
        codec: name of the codec that wrote the blob, such as ``json`` or ``table``.
        digest: of the root blob. A codec whose root names further blobs (a folder) is a *manifest* codec;
            ``content.blobs_of`` follows it.
        form: what the codec needs besides the bytes to give the value back as it was (``pandas.DataFrame``,
            a file's name). Part of the identity.
        inline: the root blob's bytes, where they are few; then no datastore holds them. Not part of the identity.
        layout: blob that names those that the value lies in, where one value can lie in several ways; the root then
            tells what the value is. Not part of the identity.
    """

    codec: str
    digest: Digest
    form: str = ""
    inline: bytes | None = field(default=None, compare=False, repr=False)
    layout: Digest | None = field(default=None, compare=False, repr=False)
    identity: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", _leaf_identity(self.codec, self.digest, self.form))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without computing the identity again: artifacts travel with every attempt."""
        return _leaf, (self.codec, *self.digest, self.form, self.inline, self.identity, self.layout)


def _leaf_identity(codec: str, digest: Digest, form: str) -> str:
    """Return ``digest_record("pipes.leaf/1", (codec, hash, size_bytes, form))``.

    Written out, it costs a third: every argument and output of every step is a leaf.
    """
    name, hash_, kind = codec.encode(), digest.hash.encode(), form.encode("utf-8", "surrogatepass")
    framed = b"(5:s12:pipes.leaf/1s%d:%bs%d:%bi%d;s%d:%b)"
    return blake3(framed % (len(name), name, len(hash_), hash_, digest.size_bytes, len(kind), kind)).hexdigest()


def _leaf(
    codec: str, hash_: str, size_bytes: int, form: str, inline: bytes | None, identity: str, layout: Digest | None
) -> Leaf:
    leaf = object.__new__(Leaf)
    put = object.__setattr__
    put(leaf, "codec", codec)
    put(leaf, "digest", Digest(hash_, size_bytes))
    put(leaf, "form", form)
    put(leaf, "inline", inline)
    put(leaf, "layout", layout)
    put(leaf, "identity", identity)
    return leaf


@dataclass(frozen=True, slots=True)
class Collection:
    """A list, tuple, dict, or record (named tuple or dataclass) whose items are stored one by one.

    Attributes:
        kind: what it is in Python.
        keys: a dict's keys or a record's field names, in order; empty for list and tuple.
        items: the artifacts, in the order of *keys*.
        type_name: a record's class as ``module:Qualified.Name``. Only the qualified name is part of the identity,
            so moving the class to another module changes no key.
    """

    kind: CollectionKind
    items: tuple[Artifact, ...]
    keys: tuple[str | int, ...] = ()
    type_name: str = ""
    identity: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        qualname = self.type_name.partition(":")[2]
        parts = (self.kind, qualname, self.keys, tuple(item.identity for item in self.items))
        object.__setattr__(self, "identity", digest_record("pipes.collection/1", parts))


Artifact: TypeAlias = Leaf | Collection


def to_plain(artifact: Artifact) -> dict[str, Any]:
    """Return the artifact as JSON-like data (short keys: a cache holds millions)."""
    if isinstance(artifact, Leaf):
        plain: dict[str, Any] = {"c": artifact.codec, "d": str(artifact.digest)}
        if artifact.form:
            plain["f"] = artifact.form
        if artifact.inline is not None:
            plain["i"] = base64.b64encode(artifact.inline).decode("ascii")
        if artifact.layout is not None:
            plain["l"] = str(artifact.layout)
        return plain
    plain = {"k": artifact.kind, "v": [to_plain(item) for item in artifact.items]}
    if artifact.keys:
        plain["n"] = list(artifact.keys)
    if artifact.type_name:
        plain["t"] = artifact.type_name
    return plain


def from_plain(plain: dict[str, Any]) -> Artifact:
    """Read what :func:`to_plain` wrote."""
    if "c" in plain:
        inline = plain.get("i")
        return Leaf(
            codec=plain["c"],
            digest=Digest.parse(plain["d"]),
            form=plain.get("f", ""),
            inline=None if inline is None else base64.b64decode(inline),
            layout=Digest.parse(plain["l"]) if "l" in plain else None,
        )
    return Collection(
        kind=plain["k"],
        items=tuple(from_plain(item) for item in plain["v"]),
        keys=tuple(plain.get("n", ())),
        type_name=plain.get("t", ""),
    )


_as_text = json.JSONEncoder(separators=(",", ":")).encode


def to_json(artifact: Artifact) -> str:
    """Return the artifact as compact JSON text, for a ledger row."""
    return _as_text(to_plain(artifact))


def from_json(text: str) -> Artifact:
    """Read what :func:`to_json` wrote."""
    return from_plain(json.loads(text))
