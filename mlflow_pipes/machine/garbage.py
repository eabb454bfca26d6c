"""How often this process looks for cycles of garbage."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_RARELY = 20_000
"""Objects made and not freed from one look to the next: Python's own 700 take a tenth of a large run's time."""

_lock = threading.Lock()
_asking = 0
_usual = (0, 0, 0)


@contextmanager
def collected_rarely() -> Iterator[None]:
    """Look for garbage less often inside; where the process has it off, or rarer still, nothing is changed."""
    global _asking, _usual  # noqa: PLW0603 - there is one collector in a process
    with _lock:
        if _asking == 0:
            _usual = gc.get_threshold()
            if 0 < _usual[0] < _RARELY:
                gc.set_threshold(_RARELY, *_usual[1:])
        _asking += 1
    try:
        yield
    finally:
        with _lock:
            _asking -= 1
            if _asking == 0:
                gc.set_threshold(*_usual)
