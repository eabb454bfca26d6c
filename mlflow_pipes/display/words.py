"""Numbers and names as people read them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import UsageSample


def short_id(run_id: str) -> str:
    """Return the part of a run's id that people type: its first eight digits.

    >>> short_id("0123456789abcdef0123456789abcdef")
    '01234567'
    """
    return run_id[:8]


def duration(seconds: float) -> str:
    """Return a time span in the unit that suits it.

    >>> [duration(s) for s in (0.0004, 0.012, 1.26, 75, 3725, 200000)]
    ['<1 ms', '12 ms', '1.3 s', '1 min 15 s', '1 h 02 min', '2 d 7 h']
    """
    seconds = max(0.0, seconds)
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def ticking(seconds: float) -> str:
    """Return a time that is still growing: tenths of seconds, so that it does not flicker.

    >>> [ticking(s) for s in (0.04, 12.34, 75)]
    ['0.0 s', '12.3 s', '1 min 15 s']
    """
    return f"{max(0.0, seconds):.1f} s" if seconds < 59.95 else duration(seconds)


def number(value: float) -> str:
    """Return a metric's value in about five significant digits.

    >>> [number(v) for v in (0.123456, 12, 1234567.0, 1e-9, 3.0)]
    ['0.12346', '12', '1,234,567', '1e-09', '3']
    """
    if value == int(value) if abs(value) < 1e15 else False:
        return f"{int(value):,}"
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.1f}"
    return f"{value:.5g}"


def count(amount: int, noun: str) -> str:
    """Return a counted noun.

    >>> count(1, "step"), count(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def usage_words(sample: UsageSample) -> str:
    """Return what an attempt uses at a moment; 100 % is one processor.

    >>> from mlflow_pipes.model.attempt import AttemptId, GpuUse, UsageSample
    >>> usage_words(UsageSample(AttemptId("r", "train", 1), 0.0, 1.5, 3 * 1024**3, (GpuUse(80.0, 2 * 1024**3),)))
    'cpu 150%, memory 3.0 GiB, gpu 80% 2.0 GiB'
    """
    words = [f"cpu {100 * sample.cpus:.0f}%", f"memory {size(sample.memory_bytes)}"]
    words += [f"gpu {gpu.percent:.0f}% {size(gpu.memory_bytes)}" for gpu in sample.gpus]
    return ", ".join(words)


def size(amount_bytes: float) -> str:
    """Return an amount of bytes in the unit that suits it.

    >>> [size(n) for n in (0, 999, 2048, 5 * 1024**3)]
    ['0 B', '999 B', '2.0 KiB', '5.0 GiB']
    """
    if amount_bytes < 1024:
        return f"{amount_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        amount_bytes /= 1024
        if amount_bytes < 1024:
            return f"{amount_bytes:.1f} {unit}"
    return f"{amount_bytes / 1024:.1f} TiB"
