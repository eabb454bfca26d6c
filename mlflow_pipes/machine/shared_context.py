"""What holds for a whole process while anybody in it wants it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


def shared_context(make: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Have the first of those inside at once enter the context, and the last one leave it; threads may overlap."""
    lock = threading.Lock()
    entered = ExitStack()
    inside = 0

    @functools.wraps(make)
    @contextmanager
    def context() -> Iterator[None]:
        nonlocal inside
        with lock:
            if not inside:
                entered.enter_context(make())
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    entered.close()

    return context
