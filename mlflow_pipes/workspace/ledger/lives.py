"""Whether processes that other runs named still live, as far as this machine can see."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow_pipes.machine.processes import is_alive, same_boot, this_host

# How long an answer about another process's life is believed, in seconds.
_BELIEVED_S = 0.5

_R = TypeVar("_R")


class Lives:
    """Answers about processes of this machine; those of others are known by their signs of life alone.

    Args:
        shared: whether processes of other machines can be named. Then the machine's name is not enough to tell that a
            process is, or was, one of ours: others may have the same name.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._is_alive = _believed(is_alive)

    def can_see(self, host: str, process: str) -> bool:
        """Whether it would be known here that the process has died."""
        return bool(process) and host == this_host() and (not self._shared or same_boot(process))

    def gone(self, host: str, process: str) -> bool:
        """Whether the process is known to have died."""
        return self.can_see(host, process) and not self._is_alive(process)


def _believed(question: Callable[[str], _R]) -> Callable[[str], _R]:
    """Return *question* with its answers remembered for half a second: a thousand claims may name one process."""

    @functools.lru_cache(maxsize=256)
    def remembered(subject: str, _period: int) -> _R:
        return question(subject)

    return lambda subject: remembered(subject, int(time.monotonic() / _BELIEVED_S))
