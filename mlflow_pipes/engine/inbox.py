"""Where events arrive, from this thread or any other, and where the loop sleeps until one does."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from collections import deque
from collections.abc import Iterable, Iterator

from mlflow_pipes.model.attempt import TargetEvent


class Inbox:
    """A queue of target events with a wait that also watches file descriptors.

    ``put`` and ``wake`` may be called from any thread and from signal handlers; the rest only from the loop's thread.
    """

    def __init__(self) -> None:
        self._events: deque[TargetEvent] = deque()
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        self._writer: int | None = writer
        self._closing = threading.RLock()  # a signal handler may come while its own thread holds it
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._watched: frozenset[int] = frozenset()
        self._thread = threading.get_ident()

    def put(self, event: TargetEvent) -> None:
        """Add an event; wakes the loop when it comes from another thread."""
        self._events.append(event)
        if threading.get_ident() != self._thread:
            self.wake()

    def wake(self) -> None:
        """End a wait that is going on, or the next one."""
        with self._closing, contextlib.suppress(BlockingIOError):  # full of wake-ups already
            if self._writer is not None:  # else the run is over; its number may stand for something else by now
                os.write(self._writer, b"\0")

    def take_all(self) -> Iterator[TargetEvent]:
        """Yield the events that are there, oldest first, also those that arrive meanwhile."""
        while self._events:
            yield self._events.popleft()

    def wait(self, timeout_s: float | None, filenos: Iterable[int]) -> None:
        """Sleep until an event or a wake-up arrives, one of *filenos* is readable, or *timeout_s* is over."""
        if self._events:
            return
        self._watch(frozenset(filenos))
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._reader:
                while len(os.read(self._reader, 4096)) == 4096:
                    pass

    def _watch(self, filenos: frozenset[int]) -> None:
        if filenos == self._watched:
            return
        # A closed descriptor's number may already stand for a new pipe: register everything afresh.
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        for fileno in (self._reader, *filenos):
            self._selector.register(fileno, selectors.EVENT_READ)
        self._watched = filenos

    def close(self) -> None:
        """Free the descriptors. Events and wake-ups that come later are ignored; idempotent."""
        with self._closing:
            writer, self._writer = self._writer, None
            if writer is None:
                return
            os.close(writer)
        self._selector.close()
        os.close(self._reader)
