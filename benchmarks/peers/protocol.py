"""What every ``*_graphs.py`` beside this file speaks: one JSON line per figure. Imported in the peers' environments.

    python NAME_graphs.py VARIANT GRAPH SMALLER SIZE LIMIT_S STATE

runs, in a fresh process, a chain of one step twice (cold, then warm), then ``GRAPH`` of ``SMALLER`` and of ``SIZE``
steps with results that are not known yet, each followed, where the tool can reuse results, by the same call again.

The graphs, over a number ``start``; the answer is checked after the clock has stopped:

- ``chain``: SIZE steps, each adds one to what the step before it returned;
- ``fan_out``: one step adds one; SIZE steps each add their own number to that; one step sums them up;
- ``map``: one step an item over the SIZE numbers from ``start`` on, each adds one; the answers come back to the caller.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

#: Every graph works on numbers of its own: nothing is known before it is asked for again.
STARTS = {"cold": 10_000_000, "single": 20_000_000, "smaller": 30_000_000, "full": 40_000_000}
#: A graph that would take this many times the limit at the pace of the smaller one is not tried.
LIMITS_BEYOND_HOPE = 2


@dataclass(frozen=True)
class Task:
    """What a script was asked for.

    Attributes:
        variant: of the tool. graph: its name. smaller, size: two sizes of it. limit_s: for one figure; the driver ends
        the process that takes longer. state: a new folder for all that the tool stores. figures: where they go.
    """

    variant: str
    graph: str
    smaller: int
    size: int
    limit_s: float
    state: Path
    figures: TextIO


def task() -> Task:
    """Return what the command line asks for; from now on standard output is for figures, and prints go to errors."""
    figures = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    variant, graph, smaller, size, limit_s, state = sys.argv[1:]
    return Task(variant, graph, int(smaller), int(size), float(limit_s), Path(state), figures)


def expected(graph: str, size: int, start: int) -> int:
    """Return the right answer; that of a map is the sum of its items."""
    if graph == "chain":
        return start + size
    if graph == "fan_out":
        return sum(start + 1 + by for by in range(size))
    return sum(item + 1 for item in range(start, start + size))


def report(asked: Task, figure: str, value: object) -> None:
    """Print one figure; the driver reads it also when the script is ended later."""
    asked.figures.write(json.dumps({"figure": figure, "value": value}) + "\n")
    asked.figures.flush()


def measure(asked: Task, distribution: str, run: Callable[[str, int, int], int], *, again: bool) -> None:
    """Measure whole calls of *run*, which carries out a graph of a size from a start and returns the answer."""

    def seconds(graph: str, size: int, start: int) -> float:
        began = time.perf_counter()
        answer = run(graph, size, start)
        took = time.perf_counter() - began
        right = expected(graph, size, start)
        if answer != right:
            raise SystemExit(f"{graph} of {size} from {start} gave {answer!r}, not {right}")
        return took

    def timed(figure: str, graph: str, size: int, start: int) -> float:
        report(asked, "under_way", figure)
        took = seconds(graph, size, start)
        report(asked, figure, took)
        return took

    report(asked, "version", version(distribution))
    seconds("chain", 1, STARTS["cold"])
    report(asked, "cold_s", time.time() - float(os.environ["PEERS_STARTED_AT"]))
    timed("single_s", "chain", 1, STARTS["single"])
    took = 0.0
    for name, size in (("smaller", asked.smaller), ("full", asked.size)):
        if name == "full" and took * asked.size / asked.smaller > LIMITS_BEYOND_HOPE * asked.limit_s:
            report(asked, "full_not_tried", took)
            return
        took = timed(f"{name}_first_s", asked.graph, size, STARTS[name])
        if again:
            timed(f"{name}_again_s", asked.graph, size, STARTS[name])
