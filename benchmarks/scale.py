"""Large graphs: declaring and planning 100,000 steps, and the orchestrator's memory for 10,000."""

from __future__ import annotations

from benchmarks.measuring import Figure, in_process

_DECLARE_AND_PLAN = """
import json, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, ".")
from benchmarks.measuring import peak_bytes
from benchmarks.overhead import fan_out
from mlflow_pipes import Workspace, plan
with tempfile.TemporaryDirectory() as folder, Workspace.open(Path(folder) / ".pipes") as workspace:
    start = time.perf_counter()
    planned = plan(fan_out(1, arguments["steps"]), workspace=workspace)
    assert len(planned.steps) == arguments["steps"] + 2
    print(json.dumps({"wall_s": time.perf_counter() - start, "peak_bytes": peak_bytes()}))
"""

_ORCHESTRATOR = """
import json, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, ".")
from benchmarks.measuring import peak_bytes
from benchmarks.overhead import fan_out
from mlflow_pipes import Workspace, run
with tempfile.TemporaryDirectory() as folder, Workspace.open(Path(folder) / ".pipes") as workspace:
    start = time.perf_counter()
    done = run(fan_out(1, arguments["steps"]), workspace=workspace, observers=())
    wall = time.perf_counter() - start
    print(json.dumps({"wall_s": wall, "peak_bytes": peak_bytes()}))
"""


def measure() -> list[Figure]:
    """Return the figures."""
    planned = in_process(_DECLARE_AND_PLAN, steps=100_000)
    ran = in_process(_ORCHESTRATOR, steps=10_000)
    return [
        Figure("declare and plan 100,000 steps", f"{planned['wall_s']:.1f} s", "10 s", "1 run"),
        Figure("its peak memory", f"{planned['peak_bytes'] / 1e6:.0f} MB", "1000 MB", "whole process"),
        Figure("memory of the orchestrator for 10,000 steps", f"{ran['peak_bytes'] / 1e6:.0f} MB", "300 MB", "peak"),
        Figure("10,000 steps fanned out, a step", f"{ran['wall_s'] / 10_000 * 1000:.2f} ms", "", "1 run"),
    ]
