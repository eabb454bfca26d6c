"""The zygote of this process's last run, kept for its next one: to start one takes a quarter of a second.

It holds our code and none of the user's, and every run sends it its own setup. What a process has from its parent
instead (environment variables, limits, user) must be as it was, else the spare one is ended and a new one started.
It ends with this process, however that ends, and by itself when it is not needed for some minutes.
"""

from __future__ import annotations

import atexit
import os
import resource
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.targets.local.zygote_link import ZygoteLink

_AT_MOST_S = 600.0  # it holds 30 MB
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class _Spare(NamedTuple):
    link: ZygoteLink
    inherited: object


_spare: _Spare | None = None
_lock = threading.Lock()


def inherited(environ: Mapping[str, str]) -> object:
    """Return all that a zygote started now would have from this process; equal to itself only where it is unknown."""
    umask = _umask()
    if umask is None:
        return object()
    limits = tuple(resource.getrlimit(kind) for kind in _LIMITS)
    owner = (os.getresuid(), os.getresgid(), tuple(os.getgroups()))
    share = (os.getpriority(os.PRIO_PROCESS, 0), frozenset(os.sched_getaffinity(0)))
    return (sys.executable, tuple(sys.warnoptions), dict(environ), umask, limits, owner, share)


def keep(link: ZygoteLink, inherited: object) -> None:
    """Keep a zygote that has no workers; it takes the place of another one."""
    global _spare
    with _lock:
        before, _spare = _spare, _Spare(link, inherited)
        link.rest(_AT_MOST_S)
    if before is not None:
        before.link.end()


def take(inherited: object) -> ZygoteLink | None:
    """Return the spare zygote if it lives and is as one that was started now; the caller sets it up anew."""
    global _spare
    with _lock:
        spare, _spare = _spare, None
    if spare is None:
        return None
    if spare.inherited == inherited and spare.link.is_alive():
        return spare.link
    spare.link.end()
    return None


def _end() -> None:
    take(None)


def _forget() -> None:
    """In a forked child: the zygote is the parent's, and must not outlive that because we hold its connection."""
    global _spare, _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread may have held it
    spare, _spare = _spare, None
    if spare is not None:
        spare.link.disown()


def _umask() -> str | None:
    """Return the umask without setting it, as that would be felt by other threads (proc(5); Linux 4.7)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return line
    return None


atexit.register(_end)
os.register_at_fork(after_in_child=_forget)
