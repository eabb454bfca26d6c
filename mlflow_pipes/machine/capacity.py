"""What this machine, or the container we are in, has: processors, memory, graphics processors."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA = Path("/proc/driver/nvidia/gpus")
_ANSWERS_WITHIN_S = 10.0  # nvidia-smi of a driver that hangs
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


def gpus(environ: Mapping[str, str] = os.environ, driver: Path = _NVIDIA) -> tuple[str, ...]:
    """Return the graphics processors that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes.

    That variable tells when it is set; else NVIDIA's driver, or ``nvidia-smi``; none where nobody does.
    """
    told = environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        names = [name.strip() for name in told.split(",")]
        invalid = [place for place, name in enumerate(names) if not name or name.startswith("-")]
        return tuple(names[: invalid[0]] if invalid else names)  # CUDA sees those before the first invalid one
    with suppress(OSError):
        return tuple(str(number) for number, _ in enumerate(driver.iterdir()))
    asked = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if asked is None:
        return ()
    question = [asked, "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, check=True, timeout=_ANSWERS_WITHIN_S)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(answer.stdout.split())


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
