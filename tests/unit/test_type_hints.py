"""Type hints as users write them."""

import dataclasses
from collections import namedtuple
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NewType, TypedDict

from mlflow_pipes.content.wanted import alternatives
from mlflow_pipes.hints import field_hints, hints_of, is_named_tuple

if TYPE_CHECKING:
    from decimal import Decimal

Age = NewType("Age", int)


def test_what_an_annotation_wraps_is_what_is_asked_for():
    assert alternatives(Annotated[Age, "in years"] | None) == (int, type(None))
    assert alternatives(Any) == alternatives(object) == ()
    assert alternatives(Annotated[int, ["unhashable"]]) == (int,)


def test_a_hint_that_cannot_be_resolved_costs_only_itself_in_functions_and_classes():
    def function(price: "Decimal", age: int) -> None: ...

    @dataclasses.dataclass
    class Record:
        price: "Decimal"
        age: "int"

    assert hints_of(function) == {"age": int, "return": type(None)}
    assert field_hints(Record) == {"age": int}


def test_only_named_tuples_are_named_tuples():
    class Pair(NamedTuple):
        a: int

    class Point(TypedDict):
        x: int

    class Odd(tuple):  # noqa: SLOT001 - just as odd as it may be
        _fields = "a"

    assert is_named_tuple(Pair)
    assert is_named_tuple(namedtuple("Old", "a"))  # noqa: PYI024 - users have them
    assert not any(map(is_named_tuple, (Odd, Point, tuple, list[int], 3)))
