import datetime as dt
import decimal
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.cli.type_words import metavar_of, text_of
from mlflow_pipes.workspace.written_values import can_be_text, items_of, value_of


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("8", int, 8),
        ("-3", int, -3),
        ("1_000_000", int, 1_000_000),
        ("0.5", float, 0.5),
        ("1e-3", float, 0.001),
        ("8", str, "8"),
        ("a,b", str, "a,b"),
        ("data/x.csv", Path, Path("data/x.csv")),
        ("red", Colour, Colour.RED),
        ("GREEN", Colour, Colour.GREEN),
        ("high", Level, Level.HIGH),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("none", Optional[int], None),  # noqa: UP045 - users write it so
        ("4", int | None, 4),
        ("4", int | str, 4),
        ("four", int | str, "four"),
        ("4", str | int, 4),
        ("2013-01-31", dt.date, dt.date(2013, 1, 31)),
        ("2013-01-31T18:00", dt.datetime, dt.datetime(2013, 1, 31, 18)),  # noqa: DTZ001 - what the user wrote
        ("1.10", decimal.Decimal, decimal.Decimal("1.10")),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ("yes", bool | None, True),
        ("1.5", Any, 1.5),
        ("plain words", Any, "plain words"),
    ],
)
def test_text_becomes_a_value_of_the_parameters_type(text, hint, value):
    result = value_of(text, hint)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "said"),
    [
        ("x", int, "'x' is not a whole number"),
        ("1.5", int, "not a whole number"),
        ("x", float, "not a number"),
        ("blue", Colour, "'blue' is not one of red, green"),
        ("c", Literal["a", "b"], "not one of a, b"),
        ("31.1.2013", dt.date, "a date such as 2013-01-31"),
        ("maybe", bool | None, "is not bool | None"),
        ("[1]", dict[str, int], "not a JSON object"),
        ("x", int | None, "'x' is not int | None"),
    ],
)
def test_a_wrong_text_says_what_was_expected(text, hint, said):
    with pytest.raises(ValueError, match=said.replace("|", r"\|")):
        value_of(text, hint)


@pytest.mark.parametrize(
    ("texts", "hint", "value"),
    [
        (["4,8"], tuple[int, ...], (4, 8)),
        (["4", "8"], list[int], [4, 8]),
        (["4,8", "12"], list[int], [4, 8, 12]),
        (["[4, 8]"], list[int], [4, 8]),
        (['["a,b", "c"]'], list[str], ["a,b", "c"]),
        ([""], list[int], []),
        (["a, b"], set[str], {"a", "b"}),
        (["red,green"], Sequence[Colour], [Colour.RED, Colour.GREEN]),
        (["3,x"], tuple[int, str], (3, "x")),
        (["1,2"], list[int] | None, [1, 2]),
        (["x", "y"], list, ["x", "y"]),
    ],
)
def test_lists_are_separated_by_commas_or_repeated(texts, hint, value):
    result = items_of(texts, hint)
    assert result == value
    assert type(result) is type(value)


def test_a_tuple_of_set_length_wants_that_many():
    with pytest.raises(ValueError, match="expected 2 values"):
        items_of(["1,2,3"], tuple[int, int])


@given(st.lists(st.integers()))
def test_what_is_shown_as_a_default_gives_the_default_back(numbers):
    if numbers:
        assert items_of([text_of(tuple(numbers))], tuple[int, ...]) == tuple(numbers)


@pytest.mark.parametrize(
    ("hint", "word"),
    [
        (int, "INTEGER"),
        (float | None, "NUMBER"),
        (tuple[int, ...], "INTEGER,..."),
        (tuple[int, str], "INTEGER,TEXT"),
        (Colour, "red|green"),
        (Literal["a", "b"], "a|b"),
        (Path, "PATH"),
        (dict[str, int], "JSON"),
        (int | str, "INTEGER|TEXT"),
        (Any, "VALUE"),
        (dt.date, "DATE"),
    ],
)
def test_help_names_what_is_wanted(hint, word):
    assert metavar_of(hint) == word


def test_what_no_text_can_say_is_known():
    class Frame: ...

    assert not can_be_text(Frame)
    assert not can_be_text(list[Frame])
    assert can_be_text(Frame | None)  # none, at least
    assert can_be_text(list[Path])
