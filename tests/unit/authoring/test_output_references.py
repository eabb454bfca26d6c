"""References to outputs: their parts, and every other use refused with what to write instead."""

# ruff: noqa: SIM300, FURB171, C416, UP031, RUF059, PT012 - every way to misuse a reference is tested as users write it

from __future__ import annotations

import copy
import math
import operator
import os
from collections import namedtuple
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import pytest

from mlflow_pipes.authoring import OutputRef, step
from mlflow_pipes.authoring.reference import hint_of, path_of, text_of
from mlflow_pipes.errors import DeclarationError, GraphError


class Split(NamedTuple):
    train: list[float]
    test: str


@dataclass
class Scores:
    auc: float
    after: int
    split: Split


class Row(TypedDict):
    name: str
    age: int


Point = namedtuple("Point", "x y")  # noqa: PYI024


class Opaque:
    shape = (1, 2)


def of(hint) -> Any:
    """Return a reference to an output of that type."""

    def made():
        raise AssertionError("nothing runs while a graph is declared")

    made.__annotations__["return"] = hint
    return step(made)()


@pytest.mark.parametrize(
    ("hint", "take", "path", "part"),
    [
        (Split, lambda r: r.train, ("train",), list[float]),
        (Split, lambda r: r[1], ("test",), str),
        (Split, lambda r: r[-2], ("train",), list[float]),
        (Split, lambda r: r.train[3], ("train", 3), float),
        (Annotated[Split, "metadata"], lambda r: r.train, ("train",), list[float]),
        (Split | None, lambda r: r.train, ("train",), list[float]),
        (Scores, lambda r: r.auc, ("auc",), float),
        (Scores, lambda r: r.after, ("after",), int),
        (Scores, lambda r: r.split.test, ("split", "test"), str),
        (Row, lambda r: r["age"], ("age",), int),
        (Point, lambda r: r.x, ("x",), Any),
        (dict[str, int], lambda r: r["anything"], ("anything",), int),
        (dict, lambda r: r[3], (3,), Any),
        (list[str], lambda r: r[3], (3,), str),
        (list, lambda r: r[0], (0,), Any),
        (list[str], lambda r: r[-1], (-1,), str),
        (tuple[int, str], lambda r: r[1], (1,), str),
        (tuple[int, str], lambda r: r[-1], (1,), str),
        (tuple[int, ...], lambda r: r[7], (7,), int),
        (Any, lambda r: r.a["b"][2], ("a", "b", 2), Any),
        (Any, lambda r: r[-1], (-1,), Any),
        (Split | Scores, lambda r: r.train, ("train",), Any),
    ],
)
def test_parts_are_taken_as_the_annotation_says(hint, take, path, part):
    taken = take(of(hint))
    assert path_of(taken) == path
    assert hint_of(taken) == part


@pytest.mark.parametrize(
    ("hint", "take", "said"),
    [
        (Split, lambda r: r.trian, ["'made'", "no .trian", "did you mean 'train'?", "it has train, test"]),
        (Split, lambda r: r["train"], ["no ['train']", "write .train"]),
        (Split, lambda r: r[2], ["has 2 items", "no item [2]"]),
        (Split, lambda r: r.train.x, ["'made.train'", "list[float]", "no .x"]),
        (Scores, lambda r: r["auc"], ["no ['auc']", "write .auc"]),
        (Row, lambda r: r["nme"], ["no ['nme']", "did you mean 'name'?", "it has name, age"]),
        (Row, lambda r: r.name, ["no .name", "write ['name']"]),
        (dict[str, int], lambda r: r.total, ["dict[str, int]", "no .total", "write ['total']"]),
        (tuple[int, str], lambda r: r[2], ["has 2 items", "no item [2]"]),
        (list[int], lambda r: r["a"], ["list[int]", "no ['a']"]),
        (list[int], lambda r: r[1:], ["only one str or int", "in a step"]),
        (list[int], lambda r: r[True], ["only one str or int"]),
        (list[int], lambda r: r[r[0]], ["the index is not there yet"]),
        (int, lambda r: r.real, ["int", "no .real", "in a step"]),
        (Opaque, lambda r: r.shape, ["Opaque", "no .shape", "use it in a step"]),
        (None, lambda r: r.x, ["declared as None", "no .x"]),
    ],
)
def test_parts_that_cannot_be_there_are_refused_at_once(hint, take, said):
    with pytest.raises(GraphError) as caught:
        take(of(hint))
    for text in said:
        assert text in str(caught.value)


def test_hasattr_answers_as_for_any_object():
    assert hasattr(of(Split), "train")
    assert not hasattr(of(Split), "trian")
    assert not hasattr(of(Any), "_repr_html_")


def test_named_tuples_and_tuples_of_known_length_unpack():
    train, test = of(Split)
    assert (path_of(train), path_of(test)) == (("train",), ("test",))
    first, *rest = of(tuple[int, str, float])
    assert [path_of(part) for part in rest] == [(1,), (2,)]
    assert path_of(first) == (0,)
    assert len(of(Split)) == 2
    with pytest.raises(ValueError, match="too many values"):
        first, second = of(tuple[int, str, float])


@pytest.mark.parametrize(
    "use",
    [
        bool, int, float, complex, len, iter, list, tuple, sum, range, reversed, hash, abs, round, math.floor, os.fspath,
        operator.not_, operator.neg, operator.index, np.asarray, np.sqrt, format, "{}".format,
        lambda r: f"{r}", lambda r: f"{r:.2f}", lambda r: r(1), lambda r: r.predict(1), lambda r: 1 if r else 0,
        lambda r: r + 1, lambda r: 1 + r, lambda r: r - r, lambda r: 2 ** r, lambda r: r @ r, lambda r: r & 1,
        lambda r: r == 1, lambda r: 1 == r, lambda r: r != 1, lambda r: r < 1, lambda r: 1 <= r, lambda r: 1 in r,
        lambda r: r in [1], lambda r: {r}, lambda r: {r: 1}, lambda r: [x for x in r], lambda r: [0][r],
        lambda r: r.__setitem__("a", 1), lambda r: setattr(r, "a", 1), lambda r: delattr(r, "a"), lambda r: divmod(r, 2),
        lambda r: operator.iadd(r, 1), lambda r: max(r, 1), lambda r: sorted([r, r]), lambda r: r.__enter__(),
        lambda r: dict(**r), lambda r: print(*r), lambda r: [*r], lambda r: "%d" % r,
    ],
)  # fmt: skip
def test_a_reference_is_no_value_and_says_what_to_write(use):
    with pytest.raises(GraphError, match="'made") as caught:
        use(of(Any))
    said = str(caught.value)
    assert "not there yet while the pipeline is declared; " in said
    assert "step" in said or "list" in said


def test_the_refusal_names_what_was_tried():
    with pytest.raises(
        GraphError, match=r"`if`.* needs a value, but 'made.auc' is not .* move the decision into a step"
    ):
        if of(Scores).auc:
            pass
    with pytest.raises(GraphError, match=r"iterating over it or unpacking it needs how many items"):
        for _ in of(list[int]):
            pass


def test_references_print_and_are_their_own_copies():
    ref = of(Split)
    assert repr(ref.train) == "<output 'made.train': list[float], not there yet>"
    assert str(of(Any)["a b"][3]) == "<output 'made['a b'][3]', not there yet>"
    assert copy.copy(ref) is ref
    assert copy.deepcopy([ref])[0] is ref
    assert dir(ref) == ["after", "test", "train"]
    assert text_of(ref[1]) == "'made.test'"


def test_a_reference_to_itself_compares_by_identity_only():
    ref = of(int)
    assert ref in [ref]
    assert isinstance(ref, OutputRef)
    with pytest.raises(DeclarationError):
        assert ref == of(int)
