"""Overhead a step on other compute targets for a fan-out of 1,000, against the same engine's raw submit.

Ours stores, records and keeps every result; each step's code runs in a process that can be killed. Both use one
LocalCluster of two processes with a thread each, in turns.
"""

from __future__ import annotations

import statistics
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
    """Return the figures of the targets that are installed."""
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
    raw_s = statistics.median(raw)
    figures = [Figure(f"Dask, raw `client.map` and gather of {FAN_OUT:,}", f"{raw_s:.2f} s", note=_spread(raw))]
    for what, times in ours.items():
        ratio = statistics.median(times) / raw_s
        each_ms = 1000 * statistics.median(times) / FAN_OUT
        bound = f"at most {_BOUND}" if what == "first step to last" else ""
        figures.append(
            Figure(
                f"target of type dask, fan-out of {FAN_OUT:,}: {what}, as ratio to raw",
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
