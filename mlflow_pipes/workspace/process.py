"""Who a process is: ``pid:start time``, which a reused pid does not share, and whether it still lives."""

from __future__ import annotations

import functools
import os
import socket
import sys
from pathlib import Path

_LINUX = sys.platform.startswith("linux")
_DEAD_STATES = frozenset("ZXx")  # zombie, dead: its memory is gone, it will do nothing more


def this_host() -> str:
    """Return this machine's name."""
    return _host()


@functools.cache
def _host() -> str:
    return socket.gethostname()


def this_process() -> str:
    """Return this process as ``pid:start time``."""
    return identity(os.getpid()) or f"{os.getpid()}:0"


def identity(pid: int) -> str | None:
    """Return a living process as ``pid:start time``; None when there is none with that pid.

    On Linux the start time is in clock ticks since boot, straight from ``/proc`` (20 µs, and no clock adjustment
    changes it); elsewhere it is psutil's, in hundredths of a second.
    """
    if _LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The second field is the command in brackets and may hold anything, also brackets and blanks.
        fields = stat[stat.rindex(")") + 2 :].split()
        return None if fields[0] in _DEAD_STATES else f"{pid}:{fields[19]}"
    return _identity_by_psutil(pid)


def _identity_by_psutil(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
            return None
        return f"{pid}:{round(process.create_time() * 100)}"
    except psutil.NoSuchProcess:
        return None


def is_alive(process: str) -> bool:
    """Return whether the process that :func:`this_process` named still runs, on this host.

    A text of another form counts as alive: what cannot be told apart must not be declared dead.
    """
    pid, _, start = process.partition(":")
    if not (pid.isdecimal() and start):
        return True
    found = identity(int(pid))
    return found == process or (start == "0" and found is not None)
