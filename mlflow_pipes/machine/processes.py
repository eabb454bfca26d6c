"""Who a process is: ``pid:start@boot``, which a reused pid does not share, and whether it still lives."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_DEAD_STATES = frozenset({b"Z", b"X", b"x"})  # zombie, dead: its memory is gone, it will do nothing more


class ProcessStat(NamedTuple):
    """What Linux tells of a process: its relatives, its start in clock ticks since boot, and what it has used.

    Attributes:
        cpu_ticks: of processor time, its own and that of children whose end it has seen.
        resident_pages: of memory.
    """

    pid: int
    alive: bool
    parent: int
    group: int
    session: int
    start_ticks: int
    cpu_ticks: int
    resident_pages: int


def stat_of(pid: int) -> ProcessStat | None:
    """Return what ``/proc`` tells of a process (20 µs); None when there is none with that pid, or no ``/proc``.

    Raises:
        PermissionError: it is another user's, and the system hides those.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None
    # proc(5): the second field is the command in brackets and may hold anything, also brackets and blanks; those
    # counted here begin after it with the third, the state.
    fields = text[text.rindex(b")") + 2 :].split()
    parent, group, session = map(int, fields[1:4])
    cpu_ticks = sum(map(int, fields[11:15]))
    alive = fields[0] not in _DEAD_STATES
    return ProcessStat(pid, alive, parent, group, session, int(fields[19]), cpu_ticks, int(fields[21]))


@functools.cache
def this_host() -> str:
    """Return this machine's name."""
    return socket.gethostname()


def this_process() -> str:
    """Return this process as ``pid:start@boot``."""
    return identity(os.getpid()) or f"{os.getpid()}:0"


def identity(pid: int) -> str | None:
    """Return a living process as ``pid:start@boot``; None when there is none with that pid. A zombie does not live.

    On Linux the start is in clock ticks since boot, which no change of the clock moves, so the boot is named too;
    elsewhere it is psutil's, in hundredths of a second since the epoch.
    """
    if not _boot():
        return _identity_by_psutil(pid)
    stat = stat_of(pid)
    return f"{pid}:{stat.start_ticks}@{_boot()}" if stat is not None and stat.alive else None


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return ""


def same_boot(process: str) -> bool:
    """Return whether a process named so belongs to this boot of this machine, as far as its name tells."""
    return process.partition("@")[2] == _boot()


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

    A text of another form counts as alive, and so does a process that is hidden from us: what cannot be told apart
    must not be declared dead.
    """
    pid, _, start = process.partition(":")
    if not (pid.isdecimal() and start):
        return True
    try:
        found = identity(int(pid))
    except PermissionError:
        return True
    return found == process or (start == "0" and found is not None)
