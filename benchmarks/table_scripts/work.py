"""Three pandas functions, and a watch on this process's memory."""

import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

NAMES = ["alpha", "beta", "gamma", "delta"]


def make(rows: int) -> pd.DataFrame:
    """Five columns of floats and one of strings."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({f"x{number}": random.random(rows) for number in range(5)})
    names = pa.DictionaryArray.from_arrays(pa.array(random.integers(0, len(NAMES), rows)), NAMES)
    table["name"] = pd.Series(names.cast(pa.large_string()).to_pandas(), dtype="str")
    return table


def clean(table: pd.DataFrame) -> pd.DataFrame:
    """Fewer rows and three more columns."""
    kept = table[table["x0"] > 0.01]
    return kept.assign(total=kept["x0"] + kept["x1"], rank=kept["x2"].rank(), upper=kept["name"].str.upper())


def summarise(table: pd.DataFrame) -> float:
    """One number out of a group-by."""
    numbers = table.groupby("upper")[["total", "x3", "rank"]].agg(["mean", "std", "median"])
    return float(numbers.to_numpy().sum())


class MemoryWatch:
    """Peak of this process's private (anonymous) memory, looked at every 5 ms; mapped files can be dropped any time."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            self.peak_bytes = max(self.peak_bytes, int(status.partition("RssAnon:")[2].split()[0]) * 1024)
            time.sleep(0.005)
