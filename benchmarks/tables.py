"""A large table through three pandas steps, against the plain script and against handing it on by pickle."""

from __future__ import annotations

import statistics
import tempfile

from benchmarks.measuring import PROJECT, Figure, process

ROWS = 5_000_000
SCRIPTS = ("plain", "pickled", "steps")


def measure(runs: int = 7) -> list[Figure]:
    """Return the figures: whole processes, imports and start of workers included; private memory of the largest one."""
    walls: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    peaks: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    answers = set()
    for _ in range(runs):
        for name in SCRIPTS:
            script = str(PROJECT / "benchmarks" / "table_scripts" / f"{name}.py")
            with tempfile.TemporaryDirectory() as folder:  # its removal is nobody's work
                usage = process([script, str(ROWS), folder])
            answer, peak = usage.stdout.split()
            answers.add(answer)
            walls[name].append(usage.wall_s)
            peaks[name].append(float(peak))
    assert len(answers) == 1, f"the scripts disagree: {answers}"
    wall = {name: statistics.median(values) for name, values in walls.items()}
    peak = {name: statistics.median(values) for name, values in peaks.items()}
    ratios = [steps / plain for steps, plain in zip(walls["steps"], walls["plain"], strict=True)]
    return [
        Figure(
            "5 million rows through three pandas steps, ratio of wall time to the plain script",
            f"{wall['steps'] / wall['plain']:.2f}",
            "1.5",
            f"{runs} runs, {min(ratios):.2f} to {max(ratios):.2f}: {wall['steps']:.2f} s against {wall['plain']:.2f} s,"
            f" by pickle {wall['pickled']:.2f} s",
        ),
        Figure(
            "its peak of private memory, ratio to handing on by pickle",
            f"{peak['steps'] / peak['pickled']:.2f}",
            "0.5",
            f"{peak['steps'] / 1e6:.0f} MB against {peak['pickled'] / 1e6:.0f} MB; plain {peak['plain'] / 1e6:.0f} MB",
        ),
    ]
