"""They are the standard library's, but for when their methods are compiled: each law holds for both."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes import quick_dataclasses


def _classes(dataclass):
    @dataclass(frozen=True, slots=True)
    class Place:
        x: int
        name: str = "here"
        tags: dict[str, str] = field(default_factory=dict, compare=False)
        seen: int = field(default=0, repr=False)
        area: int = field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "area", self.x**2)

    @dataclass(frozen=True, slots=True)
    class City(Place):
        people: int = 0

        def __repr__(self) -> str:
            return "city"

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    return Place, City, Nothing


STANDARD = _classes(dataclasses.dataclass)
Place, City, Nothing = QUICK = _classes(quick_dataclasses.dataclass)
for _one in QUICK:  # for pickle
    _one.__qualname__ = _one.__name__

both = pytest.mark.parametrize("classes", [STANDARD, QUICK], ids=["standard", "quick"])
arguments = st.fixed_dictionaries(
    {"x": st.integers()},
    optional={
        "name": st.text(),
        "tags": st.dictionaries(st.text(), st.text()),
        "seen": st.integers(0, 1),
        "people": st.integers(0, 1),
    },
)


@given(arguments, arguments)
def test_they_are_equal_hashed_shown_replaced_and_taken_apart_as_the_standard_ones_are(one, other):
    for number in (0, 1):
        wanted, found = STANDARD[number], QUICK[number]
        if number == 0:
            one, other = ({key: value for key, value in given.items() if key != "people"} for given in (one, other))
        a, b, c, d = wanted(**one), wanted(**other), found(**one), found(**other)
        assert (a == b) == (c == d)
        assert (hash(a) == hash(b)) == (hash(c) == hash(d))
        assert repr(a).rpartition(".")[2] == repr(c).rpartition(".")[2]
        assert dataclasses.asdict(a) == dataclasses.asdict(c)
        assert dataclasses.asdict(dataclasses.replace(a, x=7)) == dataclasses.asdict(dataclasses.replace(c, x=7))
        assert pickle.loads(pickle.dumps(c)) == c == copy.copy(c)
        assert pickle.loads(pickle.dumps(c)).tags == c.tags


@both
def test_nothing_of_them_can_be_changed(classes):
    one = classes[0](3)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        one.x = 4
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x
    assert not hasattr(one, "__dict__")


@both
def test_each_has_its_own_default(classes):
    first, second = classes[0](1), classes[0](2)
    assert first.tags == {}
    assert first.tags is not second.tags


@both
def test_wrong_arguments_are_told_with_the_class(classes):
    with pytest.raises(TypeError, match=r"Place\.__init__\(\) missing 1 required positional argument: 'x'"):
        classes[0]()
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        classes[0](1, y=2)


@both
def test_they_match_patterns_by_place(classes):
    place = classes[0]
    match place(3, "there"):
        case place(x, name):
            assert (x, name) == (3, "there")


@pytest.mark.parametrize("dataclass", [dataclasses.dataclass, quick_dataclasses.dataclass], ids=["standard", "quick"])
def test_a_record_is_equal_to_one_of_the_same_object_whatever_that_thinks_of_itself(dataclass):
    @dataclass(frozen=True, slots=True)
    class Number:
        value: object

    @dataclass(frozen=True, slots=True)
    class Named:
        name: str
        value: object

    nan = float("nan")
    assert Number(nan) == Number(nan) != Number(float("nan"))
    assert Named("x", nan) == Named("x", nan)
    assert hash(Number(1)) == hash((1,))


@both
def test_one_of_another_class_or_without_fields(classes):
    place, city, nothing = classes
    assert place(1) != city(1)
    assert nothing() == nothing()
    assert hash(nothing()) == hash(nothing())
    assert dataclasses.is_dataclass(nothing())
    assert repr(city(1)) == "city"


@pytest.mark.parametrize("dataclass", [dataclasses.dataclass, quick_dataclasses.dataclass], ids=["standard", "quick"])
def test_a_class_keeps_its_own_hash_or_equality(dataclass):
    @dataclass(frozen=True, slots=True)
    class OwnHash:
        x: int

        def __hash__(self):
            return 7

    @dataclass(frozen=True, slots=True)
    class OwnEquality:  # noqa: PLW1641 - a dataclass makes it
        x: int

        def __eq__(self, other):
            return True

    @dataclass(frozen=True, slots=True)
    class PartOfHash:
        x: int
        y: int = field(default=0, hash=False)

    assert hash(OwnHash(1)) == 7
    assert OwnHash(1) != OwnHash(2)
    assert OwnEquality(1) == OwnEquality(2)
    assert hash(OwnEquality(1)) == hash(OwnEquality(1)) != hash(OwnEquality(2))
    assert hash(PartOfHash(1, 2)) == hash(PartOfHash(1, 3))
    assert PartOfHash(1, 2) != PartOfHash(1, 3)


def test_what_it_cannot_make_is_told_where_it_is_declared():
    def keyword_only():
        @quick_dataclasses.dataclass(frozen=True, slots=True)
        class Record:
            x: int = field(kw_only=True)

    def init_only():
        @quick_dataclasses.dataclass(frozen=True, slots=True)
        class Record:
            x: dataclasses.InitVar[int]

    for declare in (keyword_only, init_only):
        with pytest.raises(TypeError, match=r"Record has keyword-only or init-only fields: make it a standard"):
            declare()


def test_what_is_not_frozen_with_slots_is_the_standard_librarys():
    @quick_dataclasses.dataclass(slots=True)
    class Open:
        x: int

    @quick_dataclasses.dataclass
    class Plain:
        x: int

    changed = Open(1)
    changed.x = 2
    assert (changed, Plain(3).x) == (Open(2), 3)
