"""Killing all that a worker started: its process group, its session, its descendants."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from mlflow_pipes.machine.processes import ProcessStat, stat_of


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
    found = {leader}
    processes = [one for one in _processes() if one.alive]
    grew = True
    while grew:
        more = {one.pid for one in processes if one.parent in found or leader in {one.group, one.session}} - found
        found |= more
        grew = bool(more)
    return found - {leader}


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
