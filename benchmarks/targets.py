"""Overhead a step on other compute targets for a fan-out of 1,000, against the same engine's raw submit.

Ours stores, records and keeps every result; each step's code runs in a process that can be killed. Dask: both use one
LocalCluster of two processes with a thread each, in turns. Spark: both have Spark of two threads (`local[2]`) of their
own, and the raw submit is one job of 1,000 tasks, each of which calls one trivial function in Python:
`parallelize(range(1000), 1000).map(f).sum()`, as 1,000 steps would be 1,000 tasks.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Figure
from benchmarks.overhead import FAN_OUT, WORKERS, fan_out
from mlflow_pipes import Workspace, run

_ROUNDS = 3
_BOUND = 1.5


def _shifted(x: int, by: int) -> int:
    return x + by


def measure() -> list[Figure]:
    """Return the figures of the targets."""
    return [*_dask(), *_spark()]


def _dask() -> list[Figure]:
    from distributed import Client, LocalCluster

    raw: list[float] = []
    ours: dict[str, list[float]] = {"first step to last": [], "whole run": []}
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        (Path(folder) / "pipes.toml").write_text(
            f'target = "cluster"\n[targets.cluster]\ntype = "dask"\naddress = "{cluster.scheduler_address}"\n'
        )
        with Workspace.open(Path(folder) / ".pipes") as workspace:
            run(fan_out(-1_000_000, 4), workspace=workspace, observers=())
            for number in range(1, _ROUNDS + 1):
                raw.append(_raw_s(client, number))
                began = time.perf_counter()
                done = run(fan_out(number * 1_000_000), workspace=workspace, observers=())
                ours["whole run"].append(time.perf_counter() - began)
                span = max(one.ended_at for one in done.steps) - min(one.started_at for one in done.steps)
                ours["first step to last"].append(span.total_seconds())
    return _compared("dask", f"Dask, raw `client.map` and gather of {FAN_OUT:,}", raw, ours)


def _spark() -> list[Figure]:
    ours: dict[str, list[float]] = {"first step to last": [], "whole run": []}
    started: list[float] = []
    raw, raw_started_s = _raw_spark()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pipes.toml").write_text(
            f'target = "spark"\n[targets.spark]\ntype = "spark"\nmaster = "local[{WORKERS}]"\n'
        )
        with Workspace.open(Path(folder) / ".pipes") as workspace:
            for number in range(1, _ROUNDS + 1):
                began = time.perf_counter()
                first = time.time()
                done = run(fan_out(number * 1_000_000), workspace=workspace, observers=())
                whole_s = time.perf_counter() - began
                begun = min(one.started_at for one in done.steps)
                started.append(begun.timestamp() - first)
                span = max(one.ended_at for one in done.steps) - begun
                ours["first step to last"].append(span.total_seconds())
                ours["whole run"].append(whole_s - started[-1])  # Spark's start is a figure of its own
    start_s = statistics.median(started)
    return [
        *_compared("spark", f"Spark, raw job of {FAN_OUT:,} tasks of a trivial function", raw, ours),
        Figure(
            "target of type spark: from the call of `run` to the first step, with Spark's start",
            f"{start_s:.1f} s",
            note=f"{_spread(started)}; raw: {raw_started_s:.1f} s to a session and its first job",
        ),
    ]


def _raw_spark() -> tuple[list[float], float]:
    """Return the times of raw jobs, and how long Spark took to start; in a process of its own, as ours has one."""
    script = f"""
import json, time
began = time.perf_counter()
from pyspark.sql import SparkSession
settings = {{"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.driver.host": "127.0.0.1"}}
spark = SparkSession.builder.master("local[{WORKERS}]").config(map=settings).getOrCreate()
spark.sparkContext.parallelize(range({WORKERS}), {WORKERS}).sum()
times = [time.perf_counter() - began]
for number in range({_ROUNDS}):
    began = time.perf_counter()
    spark.sparkContext.parallelize(range({FAN_OUT}), {FAN_OUT}).map(lambda x: x + number).sum()
    times.append(time.perf_counter() - began)
print(json.dumps(times))
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    started_s, *times = json.loads(said.stdout.splitlines()[-1])
    return times, started_s


def _compared(type_: str, what_is_raw: str, raw: list[float], ours: dict[str, list[float]]) -> list[Figure]:
    raw_s = statistics.median(raw)
    figures = [Figure(what_is_raw, f"{raw_s:.2f} s", note=_spread(raw))]
    for what, times in ours.items():
        ratio = statistics.median(times) / raw_s
        each_ms = 1000 * statistics.median(times) / FAN_OUT
        bound = f"at most {_BOUND}" if what == "first step to last" else ""
        figures.append(
            Figure(
                f"target of type {type_}, fan-out of {FAN_OUT:,}: {what}, as ratio to raw",
                f"{ratio:.2f}",
                bound,
                f"{each_ms:.2f} ms a step; {_spread(times)}",
            )
        )
    return figures


def _raw_s(client: object, number: int) -> float:
    start = time.perf_counter()
    futures = client.map(_shifted, [number] * FAN_OUT, range(FAN_OUT), pure=False)  # type: ignore[attr-defined]
    sum(client.gather(futures))  # type: ignore[attr-defined]
    return time.perf_counter() - start


def _spread(times: list[float]) -> str:
    return f"{min(times):.2f} to {max(times):.2f} s"
