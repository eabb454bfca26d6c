"""Overhead a step by the graph's shape and size, on ``inline`` and ``local``, first time and again; memory; growth.

``chain``: one after the other. ``fan_out``: 1 -> n -> 1, declared. ``mapped``: the same over a list that a step makes.
``nested``: steps that return ten calls each, to any depth. Every run is a process of its own; whole ``run(...)`` calls
are timed, workers' start included. Sizes take turns. Growth is how many times as long ten times the steps take.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from benchmarks.measuring import Figure, in_process
from mlflow_pipes import pipeline, step

SHAPES = ("chain", "fan_out", "mapped", "nested")
TARGETS = ("inline", "local")
SIZES = (1_000, 10_000)
LARGE = 100_000
ROUNDS = 3
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
import json, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, ".")
from benchmarks import shapes
from benchmarks.measuring import peak_bytes, unpublished
from mlflow_pipes import Workspace, run
with tempfile.TemporaryDirectory() as folder, Workspace.open(Path(folder) / ".pipes") as workspace:
    declared = getattr(shapes, arguments["shape"])
    def timed():
        start, cpu = time.perf_counter(), time.process_time()
        done = run(declared(7, arguments["steps"]), workspace=workspace, target=arguments["target"], observers=())
        return time.perf_counter() - start, time.process_time() - cpu, done
    first, cpu, done = timed()
    peak = peak_bytes()
    unpublished(workspace.folder)
    again, _, _ = timed()
    steps = len(done.steps)
    print(json.dumps({"first_s": first, "cpu_s": cpu, "again_s": again, "steps": steps, "peak_bytes": peak}))
    unpublished(workspace.folder)
"""

_Found: TypeAlias = dict[str, float]


def measure(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> list[Figure]:
    """Return the figures."""
    figures = []
    for target in TARGETS:
        for shape in SHAPES:
            found: dict[int, list[_Found]] = {size: [] for size in sizes}
            for _ in range(rounds):
                for size in sizes:
                    found[size].append(in_process(_RUN, shape=shape, steps=size, target=target))
            medians = [_medians(found[size]) for size in sizes]
            for one in medians:
                figures += _figures_of_size(f"{shape} of {one['steps']:,.0f} steps, {target}", one, rounds)
            for small, large in pairwise(medians):
                figures.append(_growth(f"{shape} of {large['steps']:,.0f} steps, {target}", small, large))
    return figures


def _medians(rounds: Sequence[_Found]) -> _Found:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _figures_of_size(what: str, found: _Found, rounds: int) -> list[Figure]:
    runs = "1 run" if rounds == 1 else f"{rounds} runs"
    first, cpu, again = (found[name] / found["steps"] * 1000 for name in ("first_s", "cpu_s", "again_s"))
    note = f"{runs}; orchestrator {cpu:.2f} ms CPU a step, at most {found['peak_bytes'] / 1e6:.0f} MB"
    return [
        Figure(f"{what}, a step", f"{first:.2f} ms", "", note),
        Figure(f"{what}, again, all reused, a step", f"{again:.2f} ms", "", runs),
    ]


def _growth(what: str, small: _Found, large: _Found) -> Figure:
    times = large["steps"] / small["steps"]
    first, cpu, again = (large[name] / small[name] for name in ("first_s", "cpu_s", "again_s"))
    note = f"CPU: {cpu:.1f} times; again: {again:.1f} times"
    return Figure(
        f"{what}: time of {times:.0f} times the steps", f"{first:.1f} times", f"{1.2 * times:.0f} times", note
    )
