"""What a target's thread is told, by whatever thread: it alone decides, so nothing else needs a lock."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.attempt import Assignment, AttemptId
    from mlflow_pipes.targets.spark.driver_link import DriverLink
    from mlflow_pipes.targets.spark.reception import Visitor
    from mlflow_pipes.targets.station.mailbox import Absence


class Submitted(NamedTuple):
    """The engine wants an attempt done."""

    assignment: Assignment


class Cancelled(NamedTuple):
    """The engine wants an attempt stopped."""

    attempt: AttemptId


class Opened(NamedTuple):
    """A task is here for attempts."""

    visitor: Visitor


class Told(NamedTuple):
    """A task says how its attempts go."""

    visitor: Visitor
    events: bytes
    absent: Mapping[Digest, Absence]


class Gone(NamedTuple):
    """A task is not here any more."""

    visitor: Visitor
    why: str


class Heard(NamedTuple):
    """The driver says something; None when it is gone."""

    link: DriverLink
    said: Mapping[str, Any] | None


News: TypeAlias = "Submitted | Cancelled | Opened | Told | Gone | Heard | None"
"""None: there will be attempts."""


class Inbox:
    """News in order."""

    def __init__(self) -> None:
        self._news: deque[News] = deque()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def put(self, news: News) -> None:
        """Add news; from any thread."""
        self._news.append(news)
        self.wake()

    def wake(self) -> None:
        """Have ``wait`` return."""
        with suppress(OSError):  # full: it is awake
            os.write(self._write, b"\0")

    def take(self) -> list[News]:
        """Return what has come."""
        with suppress(BlockingIOError):
            while len(os.read(self._read, 4096)) == 4096:
                pass
        return [self._news.popleft() for _ in range(len(self._news))]

    def wait(self, at_most_s: float | None, others: Iterable[int]) -> None:
        """Wait until something has come, or one of other descriptors can be read."""
        poll = select.poll()
        for descriptor in (self._read, *others):
            poll.register(descriptor, select.POLLIN)
        poll.poll(None if at_most_s is None else 1000 * at_most_s)

    def close(self) -> None:
        """Free its descriptors; who still has news is not heard."""
        reading, writing, self._write = self._read, self._write, -1
        os.close(writing)
        os.close(reading)
