"""A clock that jumps from one event to the next, and the queue of events that drives a run's state machine by it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from mlflow_pipes.scheduling.messages import Command, Event, TimePassed
from mlflow_pipes.scheduling.state import RunState


def _unseen(_: Event) -> None:
    """See nothing."""


class VirtualTime:
    """Drives the real state machine without any waiting: what takes an hour takes as long as its decisions.

    Args:
        state: what is driven.
        perform: carries out commands, mostly by :meth:`send`.
        note: sees each event just before the state machine does.

    Attributes:
        now: virtual seconds since the run began.
    """

    def __init__(
        self,
        state: RunState,
        perform: Callable[[Sequence[Command]], None],
        note: Callable[[Event], None] = _unseen,
    ) -> None:
        self.now = 0.0
        self._state = state
        self._perform = perform
        self._note = note
        self._queue: list[tuple[float, int, Event]] = []
        self._sequence = 0

    def send(self, at: float, event: Event) -> None:
        """Have an event happen at a moment; of events of one moment the one sent first happens first."""
        self._sequence += 1
        heapq.heappush(self._queue, (at, self._sequence, event))

    def run(self, events_at_most: float = float("inf")) -> None:
        """Begin the run and go on to its end, or until nothing more can happen."""
        self._perform(self._state.begin(self.now))
        count = 0
        while not self._state.finished and count < events_at_most and self._step():
            count += 1

    def undelivered(self) -> list[Event]:
        """Return the events that would have come after the end, in order."""
        return [event for _, _, event in sorted(self._queue)]

    def _step(self) -> bool:
        wake = self._state.next_wake()
        if self._queue and (wake is None or self._queue[0][0] <= wake):
            self.now, _, event = heapq.heappop(self._queue)
            self._note(event)
        elif wake is not None:
            self.now = max(self.now, wake)
            event = TimePassed()
        else:
            return False
        self._perform(self._state.handle(event, self.now))
        return True
