"""Ids of runs: 32 hex digits, as MLflow's are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator


def random_id() -> str:
    """Return an id that nobody else has."""
    return os.urandom(16).hex()


def ids_in_order() -> Iterator[str]:
    """Yield ids one after the other from a random one, for the steps of one run.

    A database keeps rows of neighbouring ids on one page of an index: the next steps of a run change few pages there,
    however many runs of steps it holds. With random ids each step is a page of its own in each index.
    """
    first = int.from_bytes(os.urandom(16), "big")
    for number in itertools.count(first):
        yield f"{number % (1 << 128):032x}"
