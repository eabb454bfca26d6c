"""Overhead a step on ``local``, everything stored and recorded, against raw Dask on a two-process LocalCluster."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import Figure, published
from mlflow_pipes import Run, Workspace, pipeline, run, step

CHAIN, FAN_OUT, WORKERS = 200, 1000, 2


@step
def increment(x: int) -> int:
    """A trivial step."""
    return x + 1


@step
def shifted(x: int, by: int) -> int:
    """A trivial step of a fan-out; every item has a key of its own."""
    return x + by


@step
def total(parts: list[int]) -> int:
    """Gathers a fan-out."""
    return sum(parts)


@pipeline
def chain(start: int, length: int = CHAIN):
    """A chain of trivial steps."""
    x = start
    for _ in range(length):
        x = increment(x)
    return x


@pipeline
def fan_out(start: int, width: int = FAN_OUT):
    """1 -> width -> 1."""
    first = increment(start)
    return total([shifted(first, by) for by in range(width)])


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _span_s(done: Run) -> float:
    """Return the seconds from the start of the first step to the end of the last: without the workers' start."""
    return (max(one.ended_at for one in done.steps) - min(one.started_at for one in done.steps)).total_seconds()


def _ours(runs: int) -> dict[str, list[float]]:
    """Return seconds of whole ``run(...)`` calls, workers' start included; each run starts from another number."""
    times: dict[str, list[float]] = {"chain": [], "fan_out": [], "chain again": [], "fan_out again": []}
    times |= {"chain warm": [], "fan_out warm": []}
    with tempfile.TemporaryDirectory() as folder, Workspace.open(Path(folder) / ".pipes") as workspace:
        run(chain(-1_000_000, 3), workspace=workspace, observers=())
        for number in range(runs):
            start = number * 1_000_000
            for name, call in (("chain", chain), ("fan_out", fan_out)):
                declared = call(start)
                published(workspace.folder)
                began = time.perf_counter()
                done = run(declared, workspace=workspace, observers=())
                times[name].append(time.perf_counter() - began)
                times[f"{name} warm"].append(_span_s(done))
                published(workspace.folder)
                times[f"{name} again"].append(
                    _timed(lambda declared=declared: run(declared, workspace=workspace, observers=()))
                )
    return times


def _dask(runs: int) -> dict[str, list[float]]:
    from distributed import Client, LocalCluster

    times: dict[str, list[float]] = {"chain": [], "fan_out": []}
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def dask_chain(start: int) -> None:
            x = start
            for _ in range(CHAIN):
                x = client.submit(increment.function, x, pure=False)
            x.result()

        def dask_fan_out(start: int) -> None:
            first = client.submit(increment.function, start, pure=False)
            parts = [client.submit(shifted.function, first, by, pure=False) for by in range(FAN_OUT)]
            client.submit(total.function, parts, pure=False).result()

        dask_chain(-1_000_000)
        for number in range(runs):
            times["chain"].append(_timed(lambda n=number: dask_chain(n * 1_000_000)))
            times["fan_out"].append(_timed(lambda n=number: dask_fan_out(n * 1_000_000)))
    return times


def measure(runs: int = 5) -> list[Figure]:
    """Return the figures; a step's share of a whole ``run(...)`` call, with start and end of workers in it."""
    ours, dask = _ours(runs), _dask(runs)
    figures = []
    for name, steps in (("chain", CHAIN), ("fan_out", FAN_OUT + 2)):
        mine, theirs = statistics.median(ours[name]) / steps, statistics.median(dask[name]) / steps
        again = statistics.median(ours[f"{name} again"]) / steps
        warm = statistics.median(ours[f"{name} warm"]) / steps
        spread = f"{runs} runs, {min(ours[name]) / steps * 1000:.2f} to {max(ours[name]) / steps * 1000:.2f} ms"
        figures += [
            Figure(
                f"{name} of {steps} steps, start and end of workers included, a step",
                f"{mine * 1000:.2f} ms",
                "",
                spread,
            ),
            Figure(
                f"{name}, from its first step's start to its last one's end, a step",
                f"{warm * 1000:.2f} ms",
                "2 ms",
                "",
            ),
            Figure(f"raw Dask, the same {name}, a task", f"{theirs * 1000:.2f} ms", "", f"{runs} runs"),
            Figure(
                f"{name}, workers' start included, ratio to raw Dask",
                f"{mine / theirs:.2f}",
                "1",
                "Dask's cluster runs already",
            ),
            Figure(f"{name} again, all reused, a step", f"{again * 1000:.2f} ms", "0.3 ms", f"{runs} runs"),
        ]
    return figures
