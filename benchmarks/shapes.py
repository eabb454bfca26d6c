"""Overhead a step by the graph's shape and size, on ``inline`` and ``local``, first time and again; memory; growth.

``chain``: one after the other. ``fan_out``: 1 -> n -> 1, declared. ``mapped``: the same over a list that a step makes.
``nested``: steps that return ten calls each, to any depth. Every size is a process of its own; whole ``run(...)`` calls
are timed, workers' start included. Growth is the time of ten times the steps, divided by ten times the time.
"""

from __future__ import annotations

from benchmarks.measuring import Figure, in_process
from mlflow_pipes import pipeline, step

SHAPES = ("chain", "fan_out", "mapped", "nested")
TARGETS = ("inline", "local")
SIZES = (1_000, 10_000)
LARGE = 100_000
_NEST = 10


@step
def numbers(start: int, count: int) -> list[int]:
    """The list that is mapped over."""
    return list(range(start, start + count))


@step
def increment(x: int) -> int:
    """A trivial step."""
    return x + 1


@step
def total(parts: list[int]) -> int:
    """Gathers."""
    return sum(parts)


@step
def tree(start: int, leaves: int) -> int:
    """A call for each tenth of the leaves, and their sum."""
    if leaves <= 1:
        return start
    part = leaves // _NEST
    return total([tree(start + number * part, part) for number in range(_NEST)])


@pipeline
def chain(start: int, steps: int):
    """One after the other."""
    x = start
    for _ in range(steps):
        x = increment(x)
    return x


@pipeline
def fan_out(start: int, steps: int):
    """Declared one by one."""
    return total([increment(start + number) for number in range(steps)])


@pipeline
def mapped(start: int, steps: int):
    """Over a list that is there only when the run has come so far."""
    return total(increment.map(numbers(start, steps)))


@pipeline
def nested(start: int, steps: int):
    """A tree of calls returned by calls; nine tenths of its steps are leaves."""
    return tree(start, steps)


_RUN = """
import json, resource, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, ".")
from benchmarks import shapes
from mlflow_pipes import Workspace, run
with tempfile.TemporaryDirectory() as folder, Workspace.open(Path(folder) / ".pipes") as workspace:
    declared = getattr(shapes, arguments["shape"])
    def timed():
        start = time.perf_counter()
        done = run(declared(7, arguments["steps"]), workspace=workspace, target=arguments["target"], observers=())
        return time.perf_counter() - start, done
    first, done = timed()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    again, _ = timed()
    print(json.dumps({"first_s": first, "again_s": again, "steps": len(done.steps), "peak_bytes": peak}))
"""


def measure(sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Return the figures."""
    figures = []
    for target in TARGETS:
        for shape in SHAPES:
            before: dict[str, float] = {}
            for size in sizes:
                found = in_process(_RUN, shape=shape, steps=size, target=target)
                each, again = found["first_s"] / found["steps"], found["again_s"] / found["steps"]
                what = f"{shape} of {found['steps']:,.0f} steps, {target}"
                memory = f"orchestrator at most {found['peak_bytes'] / 1e6:.0f} MB"
                figures.append(Figure(f"{what}, a step", f"{each * 1000:.2f} ms", "", f"1 run; {memory}"))
                figures.append(Figure(f"{what}, again, all reused, a step", f"{again * 1000:.2f} ms", "", "1 run"))
                if before:
                    times = found["steps"] / before["steps"]
                    growth = found["first_s"] / before["first_s"]
                    again_growth = found["again_s"] / before["again_s"]
                    note = f"again: {again_growth:.1f} times"
                    bound = f"{1.2 * times:.0f} times"
                    figures.append(
                        Figure(f"{what}: time of {times:.0f} times the steps", f"{growth:.1f} times", bound, note)
                    )
                before = found
    return figures
