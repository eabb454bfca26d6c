"""Which letters there are between two machines, and which blobs they wait for. Opens nothing, knows no time.

A letter is some bytes and the blobs that must be where it goes before it is read there. Letters are numbered and kept
until the other side has acknowledged them, so a connection may break at any point. The other side asks for the blobs
that it lacks: what is there already is not sent.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mlflow_pipes.digests import Digest


class Letter(NamedTuple):
    """What is sent.

    Attributes:
        number: from 1, without gaps.
        needs: blobs that must be there before it is read.
        after: earlier letters, which brought further blobs that it needs.
    """

    number: int
    body: bytes
    needs: tuple[Digest, ...] = ()
    after: tuple[int, ...] = ()


class Absence(NamedTuple):
    """Why a blob did not come.

    Attributes:
        why: in words.
        is_ours: it came, and could not be stored here; else the sender has it not.
    """

    why: str
    is_ours: bool


class Delivery(NamedTuple):
    """A letter to be read now, with the blobs that did not come."""

    body: bytes
    absent: dict[Digest, Absence]


class _Waiting:
    """A letter that came and is not read yet."""

    __slots__ = ("absent", "after", "body", "lacking")

    def __init__(self, letter: Letter, lacking: set[Digest], after: set[int]) -> None:
        self.body = letter.body
        self.lacking = lacking
        self.after = after
        self.absent: dict[Digest, Absence] = {}


class Mailbox:
    """One side's letters, those that go and those that come.

    Args:
        remembers: a blob that went with a letter is taken to stay there, and not named again until it is forgotten.
    """

    def __init__(self, *, remembers: bool = False) -> None:
        self._remembers = remembers
        self._numbers = itertools.count(1)
        self._kept: OrderedDict[int, Letter] = OrderedDict()
        self._said = 0
        self._carried: dict[Digest, int] = {}
        self._received = 0
        self._waiting: dict[int, _Waiting] = {}
        self._wanted: dict[Digest, list[int]] = {}

    # --- letters that go ------------------------------------------------------------------------------------------

    def write(self, body: bytes, needs: Iterable[Digest] = ()) -> None:
        """Add a letter to those that are to go."""
        number = next(self._numbers)
        wanted = dict.fromkeys(needs)
        after: tuple[int, ...] = ()
        if self._remembers:
            after = tuple(sorted({self._carried[digest] for digest in wanted if digest in self._carried}))
            wanted = dict.fromkeys(digest for digest in wanted if digest not in self._carried)
            self._carried.update(dict.fromkeys(wanted, number))
        self._kept[number] = Letter(number, body, tuple(wanted), after)

    def next_to_say(self) -> Letter | None:
        """Return the next letter for this connection, None when all were said."""
        letter = self._kept.get(self._said + 1)
        if letter is not None:
            self._said = letter.number
        return letter

    def acknowledged(self, number: int) -> None:
        """Take note that the other side has all letters up to *number*."""
        while self._kept and next(iter(self._kept)) <= number:
            self._kept.popitem(last=False)

    def is_empty(self) -> bool:
        """Tell whether the other side has all."""
        return not self._kept

    def forget(self, digests: Iterable[Digest]) -> None:
        """Take note that blobs are not there, whatever was sent."""
        for digest in digests:
            self._carried.pop(digest, None)

    # --- letters that come ----------------------------------------------------------------------------------------

    @property
    def received(self) -> int:
        """The number of the last letter that came."""
        return self._received

    def take(
        self, letter: Letter, has: Callable[[Iterable[Digest]], set[Digest]]
    ) -> tuple[list[Delivery], list[Digest]]:
        """Take a letter that came; return what is to be read now, and which blobs to ask for.

        One that came before, on a connection that broke, is ignored.

        Args:
            letter: the letter.
            has: tells which blobs are here. Raises what it raises, and then the letter has not come.
        """
        if letter.number <= self._received:
            return [], []
        lacking = set(letter.needs) - has(letter.needs) if letter.needs else set()
        self._received = letter.number
        after = {number for number in letter.after if number in self._waiting}
        if not lacking and not after:
            return [Delivery(letter.body, {})], []
        self._waiting[letter.number] = _Waiting(letter, lacking, after)
        asked = [digest for digest in letter.needs if digest in lacking and digest not in self._wanted]
        for digest in lacking:
            self._wanted.setdefault(digest, []).append(letter.number)
        return [], asked

    def arrived(self, digest: Digest, absent: Absence | None = None) -> list[Delivery]:
        """Take note that a blob is here, or why it will not be; return what is to be read now."""
        ready = []
        for number in self._wanted.pop(digest, ()):
            waiting = self._waiting[number]
            waiting.lacking.discard(digest)
            if absent is not None:
                waiting.absent[digest] = absent
            if not waiting.lacking and not waiting.after:
                ready.append(number)
        return self._read(ready)

    def _read(self, ready: Sequence[int]) -> list[Delivery]:
        deliveries, queue = [], sorted(ready)
        while queue:
            number = queue.pop(0)
            done = self._waiting.pop(number)
            deliveries.append(Delivery(done.body, done.absent))
            for later, waiting in self._waiting.items():
                if number in waiting.after:
                    waiting.after.discard(number)
                    if not waiting.after and not waiting.lacking:
                        queue.append(later)
        return deliveries

    # --- connections ----------------------------------------------------------------------------------------------

    def connected(self, received: int) -> list[Digest]:
        """Begin on a new connection, whose other side has our letters up to *received*; return what to ask for."""
        self.acknowledged(received)
        self._said = received
        return list(self._wanted)
