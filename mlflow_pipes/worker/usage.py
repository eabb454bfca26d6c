"""What an attempt used of the machine."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

from mlflow_pipes.model.attempt import Usage

# ru_maxrss is in KiB on Linux and in bytes on macOS (getrusage(2) of each).
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Meter:
    """Processor time and peak memory of this process and its ended children, since it was made."""

    __slots__ = ("_cpu_s", "_peak")

    def __init__(self) -> None:
        self._cpu_s, self._peak = _read()

    def usage(self) -> Usage:
        """Return what was used since; the peak is that of the process, its earlier attempts mostly taken out."""
        cpu_s, peak = _read()
        if peak > self._peak:
            # The kernel keeps one peak per process. Writing 5 resets it (proc(5)), so that the next attempt in this
            # worker is not charged with this one's; only done when the peak grew, so trivial attempts never pay.
            with suppress(OSError):
                _CLEAR_REFS.write_text("5", encoding="ascii")
        return Usage(cpu_s=max(0.0, cpu_s - self._cpu_s), peak_memory_bytes=peak * _RSS_UNIT)


def _read() -> tuple[float, int]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, own.ru_maxrss
