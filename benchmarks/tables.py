"""A large table through three pandas steps, against the plain script and against handing it on by pickle."""

from __future__ import annotations

import statistics
import sys

from benchmarks.measuring import PROJECT, Figure, process

ROWS = 5_000_000

_FUNCTIONS = """
import sys, tempfile
from pathlib import Path
import numpy as np
import pandas as pd

def make(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    table = pd.DataFrame({f"x{i}": random.random(rows) for i in range(5)})
    table["name"] = pd.array(np.array(["alpha", "beta", "gamma", "delta"])[random.integers(0, 4, rows)], dtype="str")
    return table

def add(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(total=table["x0"] + table["x1"])

def summarise(table: pd.DataFrame) -> float:
    return float(table.groupby("name")["total"].mean().sum())
"""

_PLAIN = (
    _FUNCTIONS
    + """
print(summarise(add(make(int(sys.argv[1])))))
"""
)

_PICKLED = (
    _FUNCTIONS
    + """
import pickle
def handed_on(value, folder):
    file = Path(folder) / "value.pickle"
    file.write_bytes(pickle.dumps(value, protocol=5))
    del value
    return pickle.loads(file.read_bytes())
with tempfile.TemporaryDirectory() as folder:
    print(summarise(handed_on(add(handed_on(make(int(sys.argv[1])), folder)), folder)))
"""
)

_STEPS = (
    _FUNCTIONS
    + """
from mlflow_pipes import Workspace, pipeline, run, step

make, add, summarise = step(make), step(add), step(summarise)

@pipeline
def large(rows: int):
    return summarise(add(make(rows)))

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Workspace.open(Path(folder) / ".pipes") as workspace:
        done = run(large(int(sys.argv[1])), workspace=workspace, observers=())
        peak = max(attempt.usage.peak_memory_bytes for step_run in done.steps for attempt in step_run.history)
        print(done.output(), peak)
"""
)


def measure(runs: int = 3) -> list[Figure]:
    """Return the figures. Peak memory is that of the largest single process."""
    import tempfile
    from pathlib import Path

    walls: dict[str, list[float]] = {"plain": [], "pickle": [], "steps": []}
    peaks: dict[str, list[float]] = {"plain": [], "pickle": [], "steps": []}
    with tempfile.TemporaryDirectory() as folder:
        scripts = {"plain": _PLAIN, "pickle": _PICKLED, "steps": _STEPS}
        for name, text in scripts.items():
            (Path(folder) / f"{name}_table.py").write_text(text)
        for _ in range(runs):
            for name in scripts:
                usage = process([f"{folder}/{name}_table.py", str(ROWS)], cwd=PROJECT)
                walls[name].append(usage.wall_s)
                own = float(usage.stdout.split()[1]) if name == "steps" else usage.peak_bytes
                peaks[name].append(max(own, usage.peak_bytes))
    wall = {name: statistics.median(values) for name, values in walls.items()}
    peak = {name: statistics.median(values) for name, values in peaks.items()}
    return [
        Figure(
            "5 million rows through three pandas steps, ratio of wall time to the plain script",
            f"{wall['steps'] / wall['plain']:.2f}",
            "1.5",
            f"{runs} runs; {wall['steps']:.2f} s against {wall['plain']:.2f} s, whole processes",
        ),
        Figure(
            "its peak memory, ratio to handing on by pickle",
            f"{peak['steps'] / peak['pickle']:.2f}",
            "0.5",
            f"{peak['steps'] / 1e6:.0f} MB against {peak['pickle'] / 1e6:.0f} MB; plain {peak['plain'] / 1e6:.0f} MB",
        ),
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(str(figure) for figure in measure()) + "\n")
