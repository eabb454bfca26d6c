"""Identities stand in keys and ledgers for years: when one of these changes, everything is computed again.

``python tests/unit/content/test_golden_identities.py`` writes the file anew; say in the changelog why.
"""

import datetime as dt
import functools
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlflow_pipes.content import store
from mlflow_pipes.stores.memory import MemoryDatastore

GOLDEN = Path(__file__).with_name("golden_identities.json")


class Pair(NamedTuple):
    left: int
    right: np.ndarray


def folder():
    root = Path(tempfile.mkdtemp()) / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "b.sh").write_text("b")
    (root / "sub" / "b.sh").chmod(0o755)
    return root


def values():
    return {
        "int": 8,
        "float": 0.1,
        "none": None,
        "text": "naïve",
        "bytes": b"\x00\xff",
        "plain": {"a": [1, 2.5, True, None], 2: (b"x", {3, 1}), "t": dt.datetime(2020, 1, 2, tzinfo=dt.UTC), "d": Decimal("1.50")},
        "array": np.arange(6, dtype=np.int32).reshape(2, 3),
        "scalar": np.float32(1.5),
        "pandas": pd.DataFrame(
            {
                "x": [1.0, np.nan], "n": [1, 2], "s": pd.array(["a", None], dtype="string"), "c": pd.Categorical(["b", "a"]),
                "t": np.array(["2020-01-01", "NaT"], "M8[ns]"), "i": pd.array([1, None], dtype="Int64"), "b": [True, False],
            },
            index=pd.Index([10, 20], name="k"),
        ),
        "series": pd.Series([1.5, 2.5], name="s"),
        "arrow": pa.table({"x": pa.array([1, None, 3]), "l": pa.array([[1], None, []]), "s": ["a", None, "c"]}),
        "polars": pl.DataFrame({"x": [1, None], "s": ["a", "b"], "u": [{"a": 1}, None]}),
        "record": Pair(1, np.arange(2)),
        "list": [np.arange(2), 5],
        "folder": folder(),
        "file": folder() / "a.txt",
    }  # fmt: skip


@functools.cache
def identities():
    datastore = MemoryDatastore()
    return {name: store(value, datastore).identity for name, value in values().items()}


@pytest.mark.parametrize("name", values())
def test_an_identity_is_what_it_was(name):
    assert json.loads(GOLDEN.read_text())[name] == identities()[name]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(identities(), indent=1) + "\n")
