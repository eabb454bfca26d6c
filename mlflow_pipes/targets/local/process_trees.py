"""All that a worker started, its process group, its session, its descendants: killed, or measured."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mlflow_pipes.machine.processes import ProcessStat, stat_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class TreeUse(NamedTuple):
    """What a process and all that it started use: processor time until now, and resident memory."""

    cpu_s: float
    memory_bytes: int


def kill_tree(leader: int) -> None:
    """Kill a worker (leader of its session and group) and its descendants, at once and without asking.

    Found are its group, other groups of its session, and whoever descends from it at this moment, also in a session of
    its own. A process that left the session *and* whose parent has ended is not found: it is a daemon by intent.
    """
    others = descendants(leader)
    _signal_group(leader)
    for pid in others:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def kill_survivors(leader: int) -> bool:
    """Kill what is left of an ended worker's group and session; return whether something was."""
    survivors = [one.pid for one in _processes() if one.alive and leader in {one.group, one.session}]
    for pid in survivors:
        if pid != leader:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    return any(pid != leader for pid in survivors)


def descendants(leader: int) -> set[int]:
    """Return the living processes of a session and all that descend from its leader, without the leader."""
    return _with_descendants(leader, [one for one in _processes() if one.alive]) - {leader}


def uses_of(leaders: Iterable[int]) -> dict[int, TreeUse]:
    """Return what living workers use, each with all that it started; costs 20 µs for each process of the machine.

    Nothing is told of those that are not there, or where there is no ``/proc``.
    """
    living = {one.pid: one for one in _processes() if one.alive}
    return {
        leader: _use([living[pid] for pid in _with_descendants(leader, list(living.values()))])
        for leader in leaders
        if leader in living
    }


def own_use() -> TreeUse | None:
    """Return what this process uses, with what it started in its own session; None without ``/proc``.

    So neither workers of targets nor the publisher count.
    """
    session = os.getsid(0)
    living = {one.pid: one for one in _processes() if one.alive and one.session == session}
    found, grown = set[int](), {os.getpid()} & living.keys()
    while grown:
        found |= grown
        grown = {pid for pid, one in living.items() if one.parent in found} - found
    return _use([living[pid] for pid in found]) if found else None


def _use(processes: Iterable[ProcessStat]) -> TreeUse:
    ticks = pages = 0
    for one in processes:
        ticks += one.cpu_ticks
        pages += one.resident_pages
    return TreeUse(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def _with_descendants(leader: int, processes: Sequence[ProcessStat]) -> set[int]:
    found = {leader}
    grew = True
    while grew:
        more = {one.pid for one in processes if one.parent in found or leader in {one.group, one.session}} - found
        found |= more
        grew = bool(more)
    return found


def _signal_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:  # it was forked but has not made its group yet
        with suppress(OSError):
            os.kill(leader, signal.SIGKILL)
    except OSError:
        pass


def _processes() -> list[ProcessStat]:
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - hundreds of names, wanted as text
    except OSError:
        return []  # no /proc (macOS): the group alone is found
    return [one for name in names if name.isdecimal() and (one := _visible(int(name))) is not None]


def _visible(pid: int) -> ProcessStat | None:
    with suppress(OSError):
        return stat_of(pid)
    return None
