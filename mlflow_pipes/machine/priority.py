"""How much of busy processors a process in the background takes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_NICE = 10
"""A tenth of what a process of the usual priority gets beside it: at 19, a seventieth, it takes tens of seconds to
start on a machine whose cores are all computing."""


def give_way() -> None:
    """Let other processes go first, for good; for a process in a session of its own."""
    os.nice(max(0, _NICE - os.getpriority(os.PRIO_PROCESS, 0)))
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a system without
            _let_session_give_way()


def _let_session_give_way() -> None:
    """Linux may share processors among sessions first, and by priority only within each: sched(7), autogroup."""
    group = Path("/proc/self/autogroup")
    try:
        group.write_text(str(_NICE), encoding="ascii")
    except BlockingIOError:  # one such change in 0.1 s, whoever asks
        time.sleep(0.15)
        group.write_text(str(_NICE), encoding="ascii")
