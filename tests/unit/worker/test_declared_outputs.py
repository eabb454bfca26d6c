"""Outputs are checked against the declared record, lightly."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from mlflow_pipes.errors import UnstorableOutputError
from mlflow_pipes.worker.outputs import as_declared


class Split(NamedTuple):
    train: int
    test: int


@dataclass
class Report:
    loss: float


def test_a_plain_tuple_of_the_right_length_becomes_the_named_tuple():
    assert as_declared((1, 2), Split, "split") == Split(1, 2)
    assert type(as_declared((1, 2), Split, "split")) is Split


def test_a_tuple_of_another_length_names_the_fields():
    with pytest.raises(UnstorableOutputError, match=r"split declares Split with 2 fields \(train, test\).*tuple of 3"):
        as_declared((1, 2, 3), Split, "split")


def test_another_record_is_not_taken_for_it():
    class Other(NamedTuple):
        a: int
        b: int

    with pytest.raises(UnstorableOutputError, match="Other"):
        as_declared(Other(1, 2), Split, "split")


def test_a_dict_for_a_record_is_refused_with_the_strange_key():
    with pytest.raises(UnstorableOutputError, match=r"'lost' is no field.*did you mean 'loss'"):
        as_declared({"lost": 1.0}, Report, "report")


def test_none_for_something_suggests_a_missing_return():
    with pytest.raises(UnstorableOutputError, match=r"returned None: is a `return` missing"):
        as_declared(None, int, "count")


@pytest.mark.parametrize(
    ("value", "declared"),
    [(None, None), (None, type(None)), (None, Any), (None, object), (None, int | None), (3, int), (3, list[int]),
     (Split(1, 2), Split), (Report(1.0), Report), ({"a": 1}, dict[str, int]), (3.5, int)],
)  # fmt: skip
def test_all_else_is_taken_as_it_is(value, declared):
    assert as_declared(value, declared, "s") is value


def test_the_same_record_from_a_module_imported_twice_is_taken():
    class Twin(NamedTuple):
        train: int
        test: int

    Twin.__qualname__ = "Split"
    assert as_declared(Twin(1, 2), Split, "split") == (1, 2)
