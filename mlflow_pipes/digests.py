"""Digests: the identity of bytes and of framed records (BLAKE3, 256 bits).

A record's pre-image is injective: every part stands with a type tag and a length, after a domain
string that carries a version (``pipes.action/1``). Two different records never share a pre-image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterable

Part: TypeAlias = "str | bytes | int | bool | tuple[Part, ...] | None"


class Digest(NamedTuple):
    """The identity of some bytes: BLAKE3 hash (64 hex digits) and length in bytes."""

    hash: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.hash}:{self.size_bytes}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read what ``str(digest)`` wrote.

        Raises:
            ValueError: *text* is not of that form.
        """
        hash_, _, size = text.partition(":")
        if len(hash_) != 64 or not size.isdecimal():
            raise ValueError(f"not a digest: {text!r}")
        return cls(hash_, int(size))


def digest_bytes(content: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of bytes held in memory."""
    if type(content) is bytes:
        return Digest(blake3(content).hexdigest(), len(content))
    view = memoryview(content)
    return Digest(blake3(view).hexdigest(), view.nbytes)


class Hasher:
    """Digest of a stream, fed piece by piece."""

    __slots__ = ("_hash", "_size_bytes")

    def __init__(self) -> None:
        self._hash = blake3()
        self._size_bytes = 0

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream."""
        self._hash.update(piece)
        self._size_bytes += memoryview(piece).nbytes

    def digest(self) -> Digest:
        """Return the digest of all bytes so far."""
        return Digest(self._hash.hexdigest(), self._size_bytes)


def _frame(part: Part) -> bytes:  # noqa: PLR0911 - a return a type
    if isinstance(part, str):
        encoded = part.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(encoded), encoded)
    if isinstance(part, bytes):
        return b"b%d:%b" % (len(part), part)
    if part is None:
        return b"n"
    if part is True:
        return b"t"
    if part is False:
        return b"f"
    if isinstance(part, int):
        return b"i%d;" % part
    if isinstance(part, tuple):
        return b"(%d:%b)" % (len(part), b"".join([_frame(item) for item in part]))
    raise TypeError(f"cannot frame a {type(part).__name__} in a digest")


def frame(domain: str, parts: Iterable[Part]) -> bytes:
    """Return the injective pre-image of a record."""
    return _frame((domain, *parts))


def digest_record(domain: str, parts: Iterable[Part]) -> str:
    """Return the hash (64 hex digits) of a framed record of *domain*, such as ``pipes.action/1``.

    >>> digest_record("pipes.example/1", ("a", "b")) == digest_record("pipes.example/1", ("ab", ""))
    False
    """
    return blake3(frame(domain, parts)).hexdigest()
