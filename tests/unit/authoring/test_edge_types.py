"""Types of edges and constants: only certain mismatches are errors."""

# ruff: noqa: UP007, UP045, PLW0108 - both spellings of unions are tested; lambdas are ids and late calls

from __future__ import annotations

import collections.abc as abc
import enum
from pathlib import Path, PurePath
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from mlflow_pipes.authoring import step
from mlflow_pipes.authoring.assignable import conflicts, misfit
from mlflow_pipes.errors import ArgumentError
from mlflow_pipes.hints import show

T = TypeVar("T")
UserId = NewType("UserId", int)


class Model:
    pass


class Forest(Model):
    pass


class Other:
    pass


class Split(NamedTuple):
    train: pd.DataFrame
    model: Model


class Row(TypedDict):
    name: str


class Predicts(Protocol):
    def predict(self, x): ...


SignedModel = type("SignedModel", (), {"__module__": "mlflow_pipes.content.models"})


class Colour(enum.Enum):
    RED = "red"


class Level(str, enum.Enum):  # noqa: UP042
    LOW = "low"


FITTING = [
    (int, int), (int, Any), (Any, int), (object, int), (int, object), (T, int), (int, T), (list[T], list[int]),
    (int, float), (int, complex), (float, complex), (bool, int), (np.float64, float), (np.int64, int), (np.int32, float),
    (int, int | None), (int | None, int), (Optional[int], Optional[str]), (Union[int, str], str), (str, Union[int, str]),
    (Forest, Model), (Model, Forest), (UserId, int), (int, UserId), (Annotated[int, "years"], int), (int, Annotated[int, []]),
    (Literal["a", "b"], str), (Literal["a", "b"], Literal["b", "c"]), (str, Literal["a"]), (Literal[1], float),
    (list[int], list[float]), (list, list[int]), (list[int], list), (list[int], abc.Sequence[int]),
    (list[int], abc.Iterable[float]), (list[int], abc.Collection), (tuple[int, ...], abc.Sequence[int]),
    (tuple[int, str], tuple[int, str]), (tuple[int, int], tuple[int, ...]), (tuple[int, ...], tuple[int, int]),
    (dict[str, int], dict[str, float]), (dict[str, int], abc.Mapping[str, Any]), (Row, dict), (dict[str, Any], Row), (Row, Row),
    (Split, tuple), (Split, Split), (Forest, Predicts), (Model, abc.Callable[[int], int]), (type[int], type),
    (pd.DataFrame, pa.Table), (pa.Table, pl.DataFrame), (pl.DataFrame, pd.DataFrame), (pd.DataFrame, abc.Iterable),
    (list[pd.DataFrame], list[pa.Table]), (pd.Series, pa.Table), (SignedModel, Path), (SignedModel, Model), (LogisticRegression, Path),
    (LogisticRegression, SignedModel), (Path, PurePath), (PurePath, Path), (str, Level), (Level, str),
    (BaseEstimator, ClassifierMixin), (ClassifierMixin, BaseEstimator), (LogisticRegression, BaseEstimator),
    (None, int | None), (np.ndarray, np.ndarray[Any, np.dtype[np.float64]]), (float, np.float64),
]  # fmt: skip

CONFLICTING = [
    (int, str), (str, int), (float, int), (str, Path), (Path, str), (None, int), (int, None), (Model, Other),
    (Forest, Other), (int | str, bytes), (int, str | bytes), (list[int], list[str]), (list[int], int), (int, list[int]),
    (list[int], abc.Iterable[str]), (dict[str, int], dict[str, str]), (dict[str, int], dict[int, int]), (dict, list),
    (tuple[int, str], tuple[int, int]), (tuple[int, int], tuple[int, int, int]), (tuple[int, ...], tuple[str, str]),
    (tuple[int, str], tuple[int, ...]), (list[int], tuple[int, ...]), (Literal["a"], Literal["b"]), (Literal["a"], int),
    (int, Literal["a"]), (pd.DataFrame, Model), (Model, pa.Table), (pd.DataFrame, np.ndarray), (pa.Table, pd.Series), (SignedModel, float), (SignedModel, dict), (Model, Path), (Path, LogisticRegression), (list[Model], list[Other]),
    (UserId, str), (Annotated[int, "years"], str), (Colour, int), (Row, list), (Split, dict), (bytes, str), (str, abc.Mapping),
]  # fmt: skip


@pytest.mark.parametrize(("produced", "wanted"), FITTING, ids=lambda hint: show(hint))
def test_an_edge_that_may_be_right_passes(produced, wanted):
    assert not conflicts(produced, wanted)


@pytest.mark.parametrize(("produced", "wanted"), CONFLICTING, ids=lambda hint: show(hint))
def test_an_edge_that_cannot_be_right_is_found(produced, wanted):
    assert conflicts(produced, wanted)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (8, int), (8, float), (True, int), (np.int64(8), int), (np.float32(0.5), float), (np.bool_(True), bool), (None, None),
        (None, int | None), ("a", Literal["a", "b"]), ([1, 2], list[int]), ([1, 2.5], list[float]), ([], list[str]),
        ((4, 8), tuple[int, ...]), ((), tuple[int, ...]), ((1, "a"), tuple[int, str]), ({"a": 1}, dict[str, int]),
        ({"a": [1]}, abc.Mapping[str, abc.Sequence[int]]), ({1, 2}, set[int]), (Path("x"), Path), (Path("x"), str | Path),
        (pd.DataFrame(), pa.Table), (Forest(), Model), (Forest(), Predicts), (len, abc.Callable[[Any], int]), (3, UserId),
        ({"name": "x"}, Row), (Split(pd.DataFrame(), Model()), tuple), (Colour.RED, Colour), ("x", T), (int, type[int]),
        ([[1]], list[list[int]]), ([1, None], list[int | None]),
    ],
)  # fmt: skip
def test_a_constant_that_may_be_right_passes(value, hint):
    assert misfit(value, hint) is None


@pytest.mark.parametrize(
    ("value", "hint", "path"),
    [
        ("8", int, ()), (8.0, int, ()), (8, str, ()), (1, bool, ()), (None, int, ()), (b"", str, ()), ("a", Path, ()),
        ("c", Literal["a", "b"], ()), (True, Literal[1], ()), ([1, "2"], list[int], (1,)), ({"a": "x"}, dict[str, int], ("a",)),
        ({1: 1}, dict[str, int], (1,)), ([[1], ["x"]], list[list[int]], (1, 0)), ((1, 2), tuple[int, str], (1,)),
        ((1,), tuple[int, int], ()), ([1], tuple[int, ...], ()), (Other(), Model, ()), (pd.DataFrame(), Model, ()),
        (5, abc.Callable[..., Any], ()), (5, list[int], ()), ("red", Colour, ()), ([1, 5], list[Literal[1, 2]], (1,)),
        ({(1, 2): 3}, dict[str, int], ((1, 2),)),
    ],
)  # fmt: skip
def test_a_constant_that_cannot_be_right_is_found_where_it_stands(value, hint, path):
    wrong = misfit(value, hint)
    assert wrong is not None
    assert wrong.path == path


@step
def split(rows: int) -> Split:
    raise NotImplementedError


@step
def train(table: pa.Table, depths: list[int] = (), init: Model | None = None) -> Forest:  # type: ignore[assignment]
    raise NotImplementedError


@step
def note(text: str) -> None: ...


def test_a_table_of_one_library_feeds_a_step_that_wants_another():
    train(split(3).train, init=split(3).model)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: train(split(3).model), ["step 'train'", "wants pyarrow.Table for 'table'", "'split.model'", "Model", "annotation"]),
        (lambda: train(split(3)), ["'split', which is declared as", "Split"]),
        (lambda: train(note("x")), ["'note', which returns nothing"]),
        (lambda: train(split(3).train, depths=[1, train(split(3).train)]), ["wants int for 'depths[1]'", "'train'"]),
        (lambda: train(split(3).train, depths=[1, "2"]), ["wants int for 'depths[1]'", "write 2"]),
        (lambda: note("x" * 200 and 12), ["wants str for 'text'", "12 (int)"]),
    ],
)  # fmt: skip
def test_a_wrong_edge_names_both_sides(call, said):
    with pytest.raises(ArgumentError) as caught:
        call()
    for text in said:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"), (None, "None"), (int | None, "int | None"), (Optional[int], "int | None"), (Any, "Any"),
        (list[int | str], "list[int | str]"), (dict[str, Any], "dict[str, Any]"), (tuple[int, ...], "tuple[int, ...]"),
        (pd.DataFrame, "pandas.DataFrame"), (Literal["a", 1], "Literal['a', 1]"), (Path, "pathlib.Path"),
    ],
)  # fmt: skip
def test_hints_show_as_users_write_them(hint, text):
    assert show(hint) == text
