"""The same shapes with 100,000 steps: ``python -m benchmarks large``, half an hour."""

from __future__ import annotations

from benchmarks.measuring import Figure
from benchmarks.shapes import LARGE, SIZES
from benchmarks.shapes import measure as measure_shapes


def measure() -> list[Figure]:
    """Return the figures."""
    return measure_shapes((SIZES[-1], LARGE), rounds=1)
