"""Hand-over of a table of 1 GB between two Dask steps, and from a Spark step to a pandas step.

Both are in parts: the first step's workers write it, the second one's read it. Handing over costs what the run takes
beyond the same work without it: making the table and adding up a column in one Dask graph, or one Spark job. The rate
is of bytes a second through both steps, on all cores; most of it goes into the hashes of the rows.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import Figure
from mlflow_pipes import Workspace, run

_COLUMNS = 20
_PARTS = 16
_ROWS = 6_250_000  # of 20 numbers of 8 bytes: 1 GB
_BYTES = _ROWS * _COLUMNS * 8
_FLOW = """
import dask.dataframe as dd
import numpy as np
import pandas as pd
from mlflow_pipes import pipeline, step

def part(number, rows):
    generator = np.random.default_rng(number)
    return pd.DataFrame({f"c{column}": generator.random(rows) for column in range(20)})

def table(rows, parts, seed):
    return dd.from_map(part, range(seed, seed + parts), rows=rows // parts)

@step
def made(rows: int, parts: int, seed: int) -> dd.DataFrame:
    return table(rows, parts, seed)

@step
def added(frame: dd.DataFrame) -> float:
    return float(frame["c0"].sum().compute())

@pipeline
def two_steps(rows: int, parts: int, seed: int):
    return added(made(rows, parts, seed))
"""
_SPARK_FLOW = """
import pandas as pd
from mlflow_pipes import pipeline, step
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

def table(session, rows, parts, seed):
    columns = [f.rand(seed + column).alias(f"c{column}") for column in range(20)]
    return session.range(0, rows, 1, parts).select(*columns)

@step(target="spark")
def made(rows: int, parts: int, seed: int, session: SparkSession) -> DataFrame:
    return table(session, rows, parts, seed)

@step(target="spark")
def alone(rows: int, parts: int, seed: int, session: SparkSession) -> float:
    return table(session, rows, parts, seed).agg(f.sum("c0")).first()[0]

@step(target="inline")
def added(frame: pd.DataFrame) -> float:
    return float(frame["c0"].sum())

@pipeline
def two_steps(rows: int, parts: int, seed: int):
    return added(made(rows, parts, seed))

@pipeline
def one_step(rows: int, parts: int, seed: int):
    return alone(rows, parts, seed)
"""


def measure() -> list[Figure]:
    """Return the figures of the targets that are installed."""
    figures = []
    for between in (_between_dask_steps, _from_spark_to_pandas):
        try:
            figures.append(between())
        except ImportError as error:
            figures.append(Figure(between.__name__.strip("_").replace("_", " "), "not measured", note=str(error)))
    return figures


def _between_dask_steps() -> Figure:
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with tempfile.TemporaryDirectory() as folder, LocalCluster(**options) as cluster:
        target = f'target = "cluster"\n[targets.cluster]\ntype = "dask"\naddress = "{cluster.scheduler_address}"\n'
        flow = _written(folder, "dask_handover", _FLOW, target)
        with Client(cluster, set_as_default=False) as client:
            client.run(_importable, folder)
            begun = time.perf_counter()
            client.compute(flow.table(_ROWS, _PARTS, 0)["c0"].sum()).result()
            alone_s = time.perf_counter() - begun
        with Workspace.open(Path(folder) / ".pipes") as workspace:
            run(flow.two_steps(100, 2, 7), workspace=workspace, observers=())
            begun = time.perf_counter()
            run(flow.two_steps(_ROWS, _PARTS, 100), workspace=workspace, observers=())
            return _figure("1 GB between two Dask steps", time.perf_counter() - begun, alone_s)


def _from_spark_to_pandas() -> Figure:
    import pyspark  # noqa: F401 - whether it is there

    with tempfile.TemporaryDirectory() as folder:
        flow = _written(folder, "spark_handover", _SPARK_FLOW, '[targets.spark]\ntype = "spark"\nmaster = "local[2]"\n')
        with Workspace.open(Path(folder) / ".pipes") as workspace:
            times = []
            for pipeline, seed in ((flow.one_step, 0), (flow.two_steps, 100)):
                done = run(pipeline(_ROWS, _PARTS, seed), workspace=workspace, observers=())
                times.append(max(one.ended_at for one in done.steps) - min(one.started_at for one in done.steps))
            alone_s, whole_s = (one.total_seconds() for one in times)
            return _figure("1 GB from a Spark step to a pandas step", whole_s, alone_s)


def _figure(what: str, whole_s: float, alone_s: float) -> Figure:
    over_s = max(whole_s - alone_s, 1e-9)
    note = f"{whole_s:.1f} s with, {alone_s:.1f} s without handing over"
    return Figure(f"hand-over of {what}", f"{over_s:.1f} s, {_BYTES / over_s / 1e6:,.0f} MB/s", note=note)


def _written(folder: str, name: str, text: str, targets: str) -> Any:
    import importlib

    (Path(folder) / "pipes.toml").write_text(targets)
    (Path(folder) / f"{name}.py").write_text(text)
    _importable(folder)
    return importlib.import_module(name)


def _importable(folder: str) -> None:
    import sys

    sys.path.insert(0, folder)
