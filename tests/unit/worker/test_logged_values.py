"""Which kind of metric a logged value is."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlflow_pipes.errors import ArgumentError
from mlflow_pipes.worker.metrics import LONGEST_COLUMN, metric_of


def logged(value):
    return metric_of("m", value, step=3, timestamp_ms=7)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0)])
def test_numbers_of_all_makes_are_numbers(value):
    metric = logged(value)
    assert (metric.kind, metric.number, metric.step, metric.timestamp_ms) == ("number", 2.0, 3, 7)
    assert type(metric.number) is float


def test_not_a_number_is_a_number():
    assert math.isnan(logged(math.nan).number)


def test_texts_are_texts():
    assert (logged("best").kind, logged("best").plain) == ("text", "best")


@pytest.mark.parametrize("value", [[1, 2.5], (1, 2.5), np.array([1, 2.5]), pd.Series([1, 2.5]), pl.Series([1.0, 2.5])])
def test_lists_of_all_makes_are_lists(value):
    assert (logged(value).kind, logged(value).plain) == ("list", [1, 2.5])


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2], "b": ["x", None]},
        pa.table({"a": [1, 2], "b": ["x", None]}),
        pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pd.DataFrame({"a": [1, 2], "b": pd.Series(["x", None], dtype=object)}),
    ],
)
def test_tables_of_all_makes_are_tables(value):
    assert (logged(value).kind, logged(value).plain) == ("table", {"a": [1, 2], "b": ["x", None]})


def test_a_dict_of_single_values_is_a_table_of_one_row():
    assert logged({"a": 1, "b": "x"}).plain == {"a": [1], "b": ["x"]}


def test_what_json_lacks_is_written_as_text_or_nothing():
    assert logged([math.nan, math.inf, pd.Timestamp("2013-01-01")]).plain == [None, "inf", "2013-01-01 00:00:00"]


def test_a_list_that_is_too_long_is_refused():
    with pytest.raises(ArgumentError, match=r"10001 values .* summary"):
        logged(range(LONGEST_COLUMN + 1))
