"""What a codec is: one way of turning values of some types into one root blob, and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeAlias, runtime_checkable

from mlflow_pipes.content.memo import FileMemo
from mlflow_pipes.digests import Digest, digest_bytes
from mlflow_pipes.errors import BlobCorruptError, UnstorableOutputError
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.ports import Datastore
from mlflow_pipes.quick_dataclasses import dataclass

Pieces: TypeAlias = Iterable[bytes | memoryview]

INLINE_LIMIT_BYTES = 1024  # a root blob of at most so many bytes rides in the artifact; no datastore holds it


class Declined(Exception):  # noqa: N818 - an answer, not an error
    """Raised by ``encode``: looked closer, this value is not for this codec; the next one is asked."""


class ComputingError(Exception):
    """Raised by ``encode``: the value was a promise, and computing it failed; the step's own code did, as its cause."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Encoded:
    """The root blob of a value, not yet written.

    Attributes:
        pieces: its bytes; a generator is read once, while the datastore writes and hashes. A digest where the
            codec has put the blob there already.
        form: what besides the bytes gives the value back (part of its identity, so a function of the value alone).
        layout: blob, in the datastore already, that names those the value lies in; of values that can lie in several
            ways, whose root tells what they are.
    """

    pieces: bytes | Pieces | Digest
    form: str = ""
    layout: Digest | None = None


@dataclass(frozen=True, slots=True)
class Storing:
    """Where a codec may put further blobs, and what it is storing.

    Attributes:
        where: path of the value in the output, for errors, such as ``output.train['a'][3]``.
    """

    datastore: Datastore
    memo: FileMemo | None
    where: str

    def refuse(self, why: str) -> NoReturn:
        """Raise the error that says which value cannot be stored, and why."""
        raise UnstorableOutputError(f"{self.where}: {why}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A leaf to give back as a value.

    Attributes:
        checkout: folder where files and folders are laid out for reading; None for one of this process's own.
    """

    leaf: Leaf
    datastore: Datastore
    checkout: Path | None = None

    def view(self) -> memoryview:
        """Return the root blob, verified. Writable where the store maps it privately; never shared."""
        return root_blob(self.leaf, self.datastore)

    def layout(self) -> memoryview:
        """Return the blob that names those the value lies in, verified."""
        assert self.leaf.layout is not None
        return self.datastore.read(self.leaf.layout)


def root_blob(leaf: Leaf, datastore: Datastore) -> memoryview:
    """Return a leaf's root blob, verified, from the artifact or the datastore.

    Raises:
        BlobMissingError: it is not there.
        BlobCorruptError: its bytes are not those of the digest.
    """
    if leaf.inline is None:
        return datastore.read(leaf.digest)
    if digest_bytes(leaf.inline) != leaf.digest:
        raise BlobCorruptError(
            f"the bytes that an artifact carries inline are not those of blob {leaf.digest}", leaf.digest
        )
    return memoryview(leaf.inline)


class Codec(Protocol):
    """Stores values of some types. Third parties name theirs in the entry-point group ``mlflow_pipes.codecs``.

    Promise: equal values give equal bytes and forms, in every process and on every machine, as far as the type lets
    it; ``decode`` gives an equal value of the same type when *wanted* does not ask for another.

    Attributes:
        name: stands in every artifact: never change it, and give a new one to a new layout.
    """

    name: str

    def accepts(self, value: Any) -> bool:
        """Whether the value is of this codec's types; cheap, importing nothing heavy."""
        ...

    def encode(self, value: Any, storing: Storing) -> Encoded:
        """Return the root blob. ``Declined`` lets another codec try; ``storing.refuse`` ends the step."""
        ...

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the value, as the consumer's annotation *wanted* asks where the codec knows several types."""
        ...


@runtime_checkable
class Manifest(Protocol):
    """A codec whose root blob, or whose layout where it has one, names further blobs."""

    def blobs(self, root: memoryview, datastore: Datastore) -> set[Digest]:
        """Return every blob that is needed besides *root* (or layout); those below an absent one are left out."""
        ...


@runtime_checkable
class Described(Protocol):
    """A codec that can tell people what a leaf is, without reading the datastore."""

    def describe(self, leaf: Leaf) -> str:
        """Return a short description, such as ``folder data, 5 files``."""
        ...


def by_size(shape: str) -> str:
    """Return a form's shape, such as ``336776x19``, as people write it."""
    return " × ".join([f"{int(size):,}" for size in shape.split("x")])  # noqa: RUF001 - the sign is meant
