"""Entries of the step cache, read before they are asked for.

A run whose steps are reused one after the other asks for each alone. The run that made one made the next ones, too: so
after some hits in a row the entries of what was declared behind the last one are read together. What was read ahead may
be as old as :data:`VALID_S`: entries never lie, and one that has vanished meanwhile is found out as ever, by its blobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from mlflow_pipes.model.run import CacheAnswer, Hit

if TYPE_CHECKING:
    from mlflow_pipes.workspace.ledger.flights import Entry

VALID_S = 2.0
FEWEST_HITS = 4
_MOST_HITS = 1024
_ONE_BY_ONE = 4  # look-ups at once; who asks for more has no use for this
_WORTH_READING = 16


class ReadAhead:
    """Decides when to read ahead, and keeps what was read.

    Args:
        load: returns the entries behind that of a step's run, by key.
        clock: monotonic, in seconds.
    """

    def __init__(self, load: Callable[[str], dict[str, Entry]], clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._until = 0.0
        self._hits = 0
        self._needed = FEWEST_HITS
        self._served = _WORTH_READING

    def entries(self) -> dict[str, Entry]:
        """Return what was read ahead and is not too old."""
        if self._entries and self._clock() > self._until:
            self._entries = {}
        return self._entries

    def served(self, count: int) -> None:
        """Take that so many look-ups were answered by what was read ahead."""
        self._served += count

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what this process has changed."""
        if self._entries:
            for key in keys:
                self._entries.pop(key, None)

    def answered(self, answers: Sequence[CacheAnswer]) -> None:
        """Take what the database answered, and read ahead when the next look-ups are likely to follow that."""
        last = answers[-1]
        if len(answers) > _ONE_BY_ONE or not isinstance(last, Hit):
            self._hits = 0
            return
        self._hits += 1
        if self._hits < self._needed:
            return
        # Where it was of little use the last time, it takes longer until it is tried again.
        self._needed = FEWEST_HITS if self._served >= _WORTH_READING else min(2 * self._needed, _MOST_HITS)
        self._hits = self._served = 0
        self._entries = self._load(last.step_run_id)
        self._until = self._clock() + VALID_S
