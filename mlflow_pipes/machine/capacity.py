"""What this machine, or the container we are in, has: processors and memory."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# cgroup v1 says "unlimited" with a number near 2**63.
_UNLIMITED = 1 << 60


def processors(cgroup: Path = _CGROUP) -> int:
    """Return how many processors this process may use: its affinity, bounded by the container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(cgroup)
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Return the memory of the machine or, where less, the container's limit; 0 when it cannot be told."""
    found = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        text = _read(file)
        if text.isdecimal() and int(text) < _UNLIMITED:
            found.append(int(text))
    return min(found, default=0)


def _cpu_quota(cgroup: Path) -> float | None:
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not quota:  # cgroup v1
        quota, period = _read(cgroup / "cpu" / "cpu.cfs_quota_us"), _read(cgroup / "cpu" / "cpu.cfs_period_us")
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None  # "max", -1 or no such file
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
