"""The same as steps of a pipeline, on ``local``."""

import sys
from pathlib import Path

import pandas as pd
import work

from mlflow_pipes import current_run, pipeline, run, step

watch = work.MemoryWatch()


@step
def make(rows: int) -> pd.DataFrame:
    """Make the table."""
    return work.make(rows)


@step
def clean(table: pd.DataFrame) -> pd.DataFrame:
    """Clean it."""
    cleaned = work.clean(table)
    log_peak()
    return cleaned


@step
def summarise(table: pd.DataFrame) -> float:
    """Summarise it; all three steps are done by one worker, so the last one has seen the peak."""
    summary = work.summarise(table)
    log_peak()
    return summary


def log_peak() -> None:
    """Record this worker's peak."""
    current_run().log("peak_bytes", sys.modules[__name__].watch.peak_bytes)


@pipeline
def large(rows: int) -> float:
    """Three steps in a row."""
    return summarise(clean(make(rows)))


if __name__ == "__main__":
    done = run(large(int(sys.argv[1])), workspace=Path(sys.argv[2]) / ".pipes", observers=())
    print(done.output(), max(one.metrics.get("peak_bytes", 0.0) for one in done.steps))
