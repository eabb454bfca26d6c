"""How often this process looks for cycles of garbage, and that it does not when it ends (ADR 22)."""

from __future__ import annotations

import atexit
import functools
import gc
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow_pipes.machine.shared_context import shared_context

_RARELY = 20_000
"""Objects made and not freed from one look to the next: Python's own 700 take a tenth of a large run's time."""
_FULLY = 50
"""Looks at young objects' survivors from one look at all objects to the next: it takes a second in a large run."""


@shared_context
@contextmanager
def collected_rarely() -> Iterator[None]:
    """Look for garbage less often inside; what anybody else chose, before or inside, stays."""
    usual = gc.get_threshold()
    rare = (_RARELY, usual[1], max(usual[2], _FULLY))
    lowered = 0 < usual[0] < _RARELY
    if lowered:
        gc.set_threshold(*rare)
    try:
        yield
    finally:
        if lowered and gc.get_threshold() == rare:
            gc.set_threshold(*usual)


@functools.cache
def end_quickly() -> None:
    """Have this process not look for garbage when it ends: a third of a second where pandas and SQLAlchemy are loaded.

    Python promises nobody that objects are finalised then; what was written to open plain files is still not lost.
    """
    atexit.register(_leave_garbage)


def _leave_garbage() -> None:
    for one in gc.get_objects():
        if issubclass(type(one), _WRITERS):  # isinstance would ask lazy objects for their class, and load them
            with suppress(Exception):  # closed, detached, or its disk is full: as when Python itself drops it
                if stat.S_ISREG(os.fstat(one.fileno()).st_mode):  # a full pipe would be waited for
                    one.flush()
    gc.freeze()


_WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
