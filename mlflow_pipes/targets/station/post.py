"""Letters and the blobs that belong to them, between two machines, over any two-way stream of bytes that may break."""

from __future__ import annotations

import os
import pickle
import select
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import DatastoreError
from mlflow_pipes.ports import Portable
from mlflow_pipes.targets.station.mailbox import Absence, Letter, Mailbox

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.station.mailbox import Delivery

_HEAD = struct.Struct(">IB")
_PIECE_BYTES = 256 * 1024
_SMALL_BYTES = 64 * 1024


def silence_for(reconnect_s: float) -> float:
    """Return after how much silence a connection is taken for broken, where it may be mended for *reconnect_s*."""
    return min(15.0, max(1.0, reconnect_s / 4))


class _Kind(IntEnum):
    HELLO = 1  # the number of the last letter that came: said first, by both sides, on each connection
    LETTER = 2
    ACK = 3
    FETCH = 4  # digests of blobs that are wanted
    BLOB = 5  # a small one, whole, after its digest
    BEGIN = 6  # a large one follows in pieces; an empty piece ends it
    PIECE = 7
    ABSENT = 8  # a blob that was asked for cannot be had, and why
    FORGET = 9  # blobs that did not stay here
    PING = 10


class LineBroken(Exception):  # noqa: N818 - it is what happened
    """The connection is gone."""


class Line:
    """A connection: two descriptors of a pipe, socket or process.

    Args:
        reading, writing: may be the same; both stay the caller's to close, in *cut*.
        cut: ends the connection, so that whoever reads or writes fails at once; called once or more often.
    """

    def __init__(self, reading: int, writing: int, cut: Callable[[], None]) -> None:
        self._reading = reading
        self._writing = writing
        self.cut = cut

    def read(self, at_most: int, silence_s: float) -> bytes:
        """Return some bytes. Raises ``LineBroken`` when it has ended, or said nothing for *silence_s*."""
        try:
            poll = select.poll()
            poll.register(self._reading, select.POLLIN | select.POLLHUP)
            if not poll.poll(silence_s * 1000):
                raise LineBroken(f"nothing was heard for {silence_s:g} s")
            piece = os.read(self._reading, at_most)
        except (OSError, ValueError) as error:
            raise LineBroken(str(error)) from error
        if not piece:
            raise LineBroken("the other side hung up")
        return piece

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write bytes, waiting for room. Raises ``LineBroken`` when it has ended."""
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._writing, rest) :]
        except (OSError, ValueError) as error:
            raise LineBroken(str(error)) from error


class Post:
    """One side of the exchange of letters; it outlives connections.

    Args:
        datastore: where blobs are taken from, and put when they come; None while letters have none.
        deliver: takes each letter when its blobs are here, with the reasons why some are not; called from the thread
            that reads. In order, but that letters that wait for blobs are overtaken.
        remembers: of the mailbox.
        silence_s: a connection on which nothing came for so long is taken for broken. Something is said at least
            every third of that.
    """

    def __init__(
        self,
        datastore: Datastore | None,
        deliver: Callable[[bytes, dict[Digest, Absence]], None],
        *,
        remembers: bool = False,
        silence_s: float = 15.0,
    ) -> None:
        self.datastore = datastore
        self._deliver = deliver
        self._silence_s = silence_s
        self._mailbox = Mailbox(remembers=remembers)
        self._changed = threading.Condition()
        self._urgent: deque[tuple[_Kind, bytes]] = deque()
        self._to_serve: deque[Digest] = deque()
        self._ack_due = self._greeted = False
        self._line: Line | None = None

    # --- for others, from any thread ------------------------------------------------------------------------------

    def send(self, body: bytes, needs: Iterable[Digest] = ()) -> None:
        """Send a letter, now or when there is a connection."""
        with self._changed:
            self._mailbox.write(body, needs)
            self._changed.notify_all()

    def forget(self, digests: Iterable[Digest]) -> None:
        """Take note that blobs are not there, whatever was sent."""
        with self._changed:
            self._mailbox.forget(digests)

    def wait_until_sent(self, at_most_s: float) -> bool:
        """Wait until the other side has all letters; tell whether it has."""
        with self._changed:
            return self._changed.wait_for(self._mailbox.is_empty, at_most_s)

    def speak(self, line: Line) -> str:
        """Exchange letters on a connection until it breaks; return how it did. One at a time."""
        with self._changed:
            self._urgent.clear()
            self._to_serve.clear()
            self._urgent.append((_Kind.HELLO, struct.pack(">Q", self._mailbox.received)))
            self._greeted = self._ack_due = False
            self._line = line
        writer = threading.Thread(target=self._write_all, args=(line,), name="post", daemon=True)
        writer.start()
        try:
            self._read_all(line)
        except LineBroken as broken:
            return str(broken)
        finally:
            with self._changed:
                self._line = None
                self._changed.notify_all()
            line.cut()
            writer.join()
        return ""

    # --- writing --------------------------------------------------------------------------------------------------

    def _write_all(self, line: Line) -> None:
        blob: Iterator[tuple[_Kind, bytes]] | None = None
        try:
            while True:
                digest = None
                with self._changed:
                    frame = self._next_frame()
                    if frame is None and blob is None:
                        if self._to_serve:
                            digest = self._to_serve.popleft()
                        elif self._line is line and not self._changed.wait(self._silence_s / 3):
                            frame = (_Kind.PING, b"")
                    if self._line is not line:
                        return
                if digest is not None:
                    blob = self._frames_of(digest)
                if frame is None and blob is not None:
                    frame = next(blob, None)
                    blob = None if frame is None else blob
                if frame is not None:
                    line.write((_HEAD.pack(len(frame[1]), frame[0]), frame[1]))
        except LineBroken:
            line.cut()

    def _next_frame(self) -> tuple[_Kind, bytes] | None:
        """Return what goes before blobs."""
        if self._urgent:
            return self._urgent.popleft()
        if self._ack_due:
            self._ack_due = False
            return _Kind.ACK, struct.pack(">Q", self._mailbox.received)
        letter = self._mailbox.next_to_say() if self._greeted else None
        return None if letter is None else (_Kind.LETTER, pickle.dumps(tuple(letter), 5))

    def _frames_of(self, digest: Digest) -> Iterator[tuple[_Kind, bytes]]:
        """Yield the frames that bring a blob."""
        try:
            assert self.datastore is not None
            with self.datastore.open(digest) as blob:
                if digest.size_bytes <= _SMALL_BYTES:
                    yield _Kind.BLOB, pickle.dumps((tuple(digest), blob.read()), 5)
                    return
                yield _Kind.BEGIN, pickle.dumps(tuple(digest), 5)
                while piece := blob.read(_PIECE_BYTES):
                    yield _Kind.PIECE, piece
                yield _Kind.PIECE, b""
        except DatastoreError as error:
            with self._changed:
                self._mailbox.forget([digest])
            yield _Kind.ABSENT, pickle.dumps((tuple(digest), str(error)), 5)

    # --- reading --------------------------------------------------------------------------------------------------

    def _read_all(self, line: Line) -> None:
        frames = self._frames(line)
        for kind, content in frames:
            if kind == _Kind.BEGIN:
                self._receive(Digest(*pickle.loads(content)), self._pieces(frames))
            elif kind == _Kind.BLOB:
                digest, whole = pickle.loads(content)
                self._receive(Digest(*digest), (whole,))
            else:
                self._handle(kind, content)

    def _frames(self, line: Line) -> Iterator[tuple[int, bytes]]:
        buffer = bytearray()
        while True:
            while len(buffer) < _HEAD.size:
                buffer += line.read(_PIECE_BYTES, self._silence_s)
            size, kind = _HEAD.unpack_from(buffer)
            while len(buffer) < _HEAD.size + size:
                buffer += line.read(max(_PIECE_BYTES, _HEAD.size + size - len(buffer)), self._silence_s)
            content = bytes(memoryview(buffer)[_HEAD.size : _HEAD.size + size])
            del buffer[: _HEAD.size + size]
            yield kind, content

    def _pieces(self, frames: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
        for kind, content in frames:
            if kind != _Kind.PIECE:
                self._handle(kind, content)
            elif content:
                yield content
            else:
                return

    def _receive(self, digest: Digest, pieces: Iterable[bytes]) -> None:
        absent = None
        try:
            assert self.datastore is not None
            found = self.datastore.put(pieces)
            if found != digest:
                absent = Absence(f"blob {digest} came with other bytes", is_ours=True)
        except DatastoreError as error:
            absent = Absence(str(error), is_ours=True)
            for _ in pieces:  # what still comes of it
                pass
        with self._changed:
            deliveries = self._mailbox.arrived(digest, absent)
            if absent is not None:
                self._say(_Kind.FORGET, [digest])
        self._deliver_all(deliveries)

    def _handle(self, kind: int, content: bytes) -> None:
        with self._changed:
            deliveries = self._handled(kind, content)
            self._changed.notify_all()
        self._deliver_all(deliveries)

    def _handled(self, kind: int, content: bytes) -> list[Delivery]:
        match kind:
            case _Kind.HELLO:
                wanted = self._mailbox.connected(struct.unpack(">Q", content)[0])
                self._greeted = True
                self._say(_Kind.FETCH, wanted)
            case _Kind.LETTER:
                deliveries, asked = self._mailbox.take(Letter(*_with_digests(pickle.loads(content))), self._here)
                self._ack_due = True
                self._say(_Kind.FETCH, asked)
                return deliveries
            case _Kind.ACK:
                self._mailbox.acknowledged(struct.unpack(">Q", content)[0])
            case _Kind.FETCH:
                self._to_serve.extend(_digests(pickle.loads(content)))
            case _Kind.FORGET:
                self._mailbox.forget(_digests(pickle.loads(content)))
            case _Kind.ABSENT:
                digest, why = pickle.loads(content)
                return self._mailbox.arrived(Digest(*digest), Absence(why, is_ours=False))
        return []

    def _here(self, digests: Iterable[Digest]) -> set[Digest]:
        if self.datastore is None:
            return set(digests)
        try:
            here = self.datastore.has(digests)
            if isinstance(self.datastore, Portable):
                self.datastore.refresh(here)
            return here
        except DatastoreError:
            return set()  # it will be asked for, and putting it tells what is wrong

    def _say(self, kind: _Kind, digests: Sequence[Digest]) -> None:
        if digests:
            self._urgent.append((kind, pickle.dumps([tuple(digest) for digest in digests], 5)))
            self._changed.notify_all()

    def _deliver_all(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._deliver(delivery.body, delivery.absent)


def _digests(plain: Iterable[Any]) -> list[Digest]:
    return [Digest(*one) for one in plain]


def _with_digests(plain: Any) -> tuple[int, bytes, tuple[Digest, ...], tuple[int, ...]]:
    number, body, needs, after = plain
    return number, body, tuple(_digests(needs)), after
