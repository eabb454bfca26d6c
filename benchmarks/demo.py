"""The whole demo, first and second run, as a user starts it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import PROJECT, Figure, process


def measure(runs: int = 5) -> list[Figure]:
    """Return the figures; the workspace is a temporary one, its service is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {"PIPES_WORKSPACE": str(Path(folder) / ".pipes")}
        script = str(PROJECT / "examples" / "flight_delays.py")
        try:
            first = process([script], environ=environ)
            again = [process([script], environ=environ) for _ in range(runs)]
        finally:
            subprocess.run(
                [sys.executable, "-m", "mlflow_pipes", "services", "stop", "--all"],
                check=False,
                cwd=PROJECT,
                env={**environ, "PATH": "/usr/bin:/bin"},
                capture_output=True,
            )
    wall = statistics.median(usage.wall_s for usage in again)
    return [
        Figure("whole demo, first run", f"{first.wall_s:.1f} s", "", "1 run"),
        Figure(
            "whole demo, second run",
            f"{wall:.2f} s",
            "3 s",
            f"{runs} runs, {min(u.wall_s for u in again):.2f} to {max(u.wall_s for u in again):.2f} s",
        ),
    ]
