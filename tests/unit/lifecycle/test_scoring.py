"""The scoring protocol: what is a request, and what a signature takes."""

import json
import math
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.lifecycle.services.scoring import Column, RefusedError, check_columns, read_request

SIGNATURE = (
    Column("distance", "double"),
    Column("hour", "long"),
    Column("carrier", "string"),
    Column("late", "boolean", required=False),
)
ROW = {"distance": 1.5, "hour": 7, "carrier": "UA"}


def request(content, signature=SIGNATURE):
    return read_request(content if isinstance(content, bytes) else json.dumps(content).encode(), signature)


def refusal(content, signature=SIGNATURE):
    with pytest.raises(RefusedError) as caught:
        request(content, signature)
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": {"columns": ["carrier", "distance", "hour"], "data": [["UA", 1.5, 7]]}},
        {"dataframe_split": {"columns": ["carrier", "distance", "hour"], "index": [0], "data": [["UA", 1.5, 7]]}},
        {"dataframe_records": [ROW]},
        {"instances": [ROW]},
        {"inputs": [ROW]},
        {"inputs": {"distance": [1.5], "hour": [7], "carrier": ["UA"]}},
        {"instances": [[1.5, 7, "UA", True]]},
    ],
)
def test_every_format_of_the_protocol_gives_the_same_columns_in_the_signatures_order(content):
    columns = request(content).columns
    columns.pop("late", None)
    assert columns == {"distance": [1.5], "hour": [7], "carrier": ["UA"]}
    assert list(columns) == ["distance", "hour", "carrier"]


def test_without_a_signature_tensors_are_passed_on_and_tables_are_not_checked():
    assert request({"inputs": [[1, 2]]}, None).tensor == [[1, 2]]
    assert request({"dataframe_records": [{"any": 1}, {"thing": 2}]}, None).columns == {
        "any": [1, None],
        "thing": [None, 2],
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"dataframe_records": [{"distance": NaN}]}', "NaN is no JSON value; write null"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "a list, not an object"),
        ({}, "none given"),
        ({"dataframe_record": []}, "did you mean 'dataframe_records'?"),
        ({"inputs": [], "instances": []}, "instances and inputs given"),
        ({"dataframe_split": []}, "'columns' and 'data'"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "'a' is given twice"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}}, "row 1 is 2 values, not a list of 1"),
        ({"dataframe_split": {"columns": ["a"], "data": 1}}, "rows must be a list, not a number"),
        ({"dataframe_split": {"columns": [1], "data": []}}, "list of names"),
        ({"dataframe_records": {"a": 1}}, "list of objects, not an object"),
        ({"dataframe_records": [1]}, "row 0 is a number"),
        ({"inputs": {"a": [1], "b": [1, 2]}}, "lists of one length"),
        ({"dataframe_records": [ROW], "params": 1}, "params must be an object"),
    ],
)
def test_what_is_no_request_is_refused_with_400_and_the_reason(content, says):
    error = refusal(content)
    assert (error.status, says in error.message) == (400, True), error.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"distance": "far"}, "column 'distance' takes numbers or null (double), but row 0 holds \"far\" (a text)"),
        ({"distance": True}, "a boolean"),
        ({"hour": 1.5}, "column 'hour' takes whole numbers"),
        ({"hour": None}, "null"),
        ({"hour": 2**63}, "column 'hour'"),
        ({"carrier": 1}, "column 'carrier' takes texts"),
        ({"late": "yes"}, "column 'late' takes true or false"),
        ({"carier": "UA", "carrier": ...}, "column 'carrier' is missing; is it what you call 'carier'?"),
        ({"hours": 1}, "column 'hours' is not known; did you mean 'hour'?"),
        ({"distance": [1]}, "(a list)"),
    ],
)
def test_columns_that_the_signature_does_not_take_are_refused_with_422_and_named(changes, says):
    row = {name: value for name, value in {**ROW, **changes}.items() if value is not ...}
    error = refusal({"dataframe_records": [row]})
    assert (error.status, says in error.message) == (422, True), error.message


def test_optional_columns_may_be_left_out_and_numbers_may_be_null_or_whole_floats():
    columns = request(
        {"dataframe_records": [{**ROW, "distance": None, "hour": 7.0, "late": True}, {**ROW, "late": False}]}
    )
    assert columns.columns == {
        "distance": [None, 1.5],
        "hour": [7, 7],
        "carrier": ["UA", "UA"],
        "late": [True, False],
    }


def test_times_and_bytes_are_read_from_text():
    signature = (Column("at", "datetime"), Column("raw", "binary"))
    columns = check_columns({"at": ["2013-01-01T10:00:00"], "raw": ["aGk="]}, signature)
    assert columns == {"at": [datetime(2013, 1, 1, 10)], "raw": [b"hi"]}  # noqa: DTZ001
    for bad in ({"at": ["today"], "raw": ["aGk="]}, {"at": ["2013-01-01"], "raw": ["?"]}):
        with pytest.raises(RefusedError):
            check_columns(bad, signature)


def test_types_that_only_mlflow_knows_are_passed_on():
    assert check_columns({"a": [[1]]}, (Column("a", "Array(long)"),)) == {"a": [[1]]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances", "params"]),
        json_values,
        max_size=2,
    )
)
def test_any_json_is_either_understood_or_refused_and_never_an_error_of_ours(content):
    body = json.dumps(content).encode()
    for signature in (SIGNATURE, None):
        with suppress(RefusedError):
            answer = read_request(body, signature)
            assert len({len(values) for values in (answer.columns or {}).values()}) <= 1


@given(st.integers() | st.floats(allow_nan=False))
def test_a_number_is_taken_by_an_integer_column_just_when_it_is_whole_and_fits(value):
    fits = math.isfinite(value) and value == int(value) and -(2**31) <= value < 2**31
    try:
        taken = check_columns({"n": [value]}, (Column("n", "integer"),))["n"][0]
    except RefusedError:
        assert not fits
    else:
        assert fits
        assert taken == value
        assert type(taken) is int
