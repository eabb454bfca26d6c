"""Values are encoded injectively: distinct values differ, equal values agree, in every process."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import json
import logging
import math
import operator
import pathlib
import re
import typing
import uuid
import zoneinfo
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_pipes.digests import frame
from mlflow_pipes.fingerprint.values import UnencodableError, digest_of_value, encode

GOLDEN = Path(__file__).with_name("golden_values.json")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Pair(typing.NamedTuple):
    left: int
    right: int


class Plain:
    def __init__(self, **state):
        vars(self).update(state)


class Words(list):
    pass


class Slotted:
    __slots__ = ("__hidden", "a")

    def __init__(self, a, hidden=0):
        self.a = a
        self.__hidden = hidden

    def shown(self):
        return self.__hidden


def examples():
    import numpy as np

    utc = dt.UTC
    return {
        "none": None,
        "true": True,
        "false": False,
        "int 0": 0,
        "int 1": 1,
        "int -1": -1,
        "int huge": 10**5000,
        "float 0": 0.0,
        "float -0": -0.0,
        "float 1": 1.0,
        "float nan": math.nan,
        "float inf": math.inf,
        "complex": 1 + 2j,
        "str empty": "",
        "str 1": "1",
        "str surrogate": "\ud800",
        "bytes empty": b"",
        "bytes 1": b"1",
        "bytearray": bytearray(b"1"),
        "list empty": [],
        "list": [1, "a", None],
        "list nested": [[1], ["a", [None]]],
        "tuple empty": (),
        "tuple": (1, "a", None),
        "tuple like a tag": ("float", "0x0.0p+0"),
        "dict empty": {},
        "dict ab": {"a": 1, "b": 2},
        "dict ba": {"b": 2, "a": 1},
        "dict int key": {1: "a"},
        "ordered dict": collections.OrderedDict(a=1),
        "default dict": collections.defaultdict(list, a=[1]),
        "counter": collections.Counter("aab"),
        "deque": collections.deque([1, 2], maxlen=3),
        "set empty": set(),
        "set": {"a", "b", "c", 1, None},
        "frozenset": frozenset({"a", "b", "c", 1, None}),
        "enum red": Colour.RED,
        "enum blue": Colour.BLUE,
        "flag": Access.READ | Access.WRITE,
        "dataclass": Point(1, 2.0),
        "dataclass default": Point(1),
        "namedtuple": Pair(1, 2),
        "instance": Plain(a=1, b=[2]),
        "instance other": Plain(a=1, b=[3]),
        "slots": Slotted(1, 2),
        "slots other": Slotted(1, 3),
        "list subclass": Words([1, 2]),
        "date": dt.date(2013, 1, 2),
        "datetime": dt.datetime(2013, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        "datetime utc": dt.datetime(2013, 1, 2, 3, 4, 5, 6, utc),
        "datetime fold": dt.datetime(2013, 1, 2, 3, 4, 5, 6, fold=1),  # noqa: DTZ001
        "time": dt.time(1, 2, 3),
        "timedelta": dt.timedelta(days=1, microseconds=2),
        "timezone": dt.timezone(dt.timedelta(hours=1)),
        "zone": zoneinfo.ZoneInfo("America/New_York"),
        "decimal 1": decimal.Decimal(1),
        "decimal 1.0": decimal.Decimal("1.0"),
        "fraction": fractions.Fraction(1, 3),
        "uuid": uuid.UUID(int=5),
        "path": pathlib.PurePosixPath("a/b"),
        "windows path": pathlib.PureWindowsPath("a/b"),
        "pattern": re.compile("a+"),
        "pattern flags": re.compile("a+", re.IGNORECASE),
        "range": range(1, 10, 2),
        "slice": slice(1, None, 2),
        "ellipsis": ...,
        "not implemented": NotImplemented,
        "partial": functools.partial(int, base=2),
        "bound method": Plain(a=1).__init__,
        "method of a builtin": "abc".upper,
        "function": len,
        "class": int,
        "module": math,
        "getter": operator.itemgetter("a", 1),
        "logger": logging.getLogger("a.b"),
        "generic": list[int],
        "optional": typing.Optional[int],  # noqa: UP045
        "union": int | None,
        "annotated": typing.Annotated[int, "metres"],
        "literal": typing.Literal["a", 1],
        "callable": typing.Callable[[int], str],
        "any": typing.Any,
        "typevar": typing.TypeVar("T", bound=int),
        "numpy int": np.int64(1),
        "numpy int32": np.int32(1),
        "numpy float": np.float64(1),
        "numpy bool": np.bool_(True),
        "numpy datetime": np.datetime64("2013-01-02", "D"),
        "numpy array": np.arange(6, dtype="<i4").reshape(2, 3),
        "numpy array shape": np.arange(6, dtype="<i4").reshape(3, 2),
        "numpy array empty": np.zeros((0, 3)),
        "numpy strings": np.array(["a", "bc"]),
        "numpy objects": np.array(["a", None], dtype=object),
        "numpy record": np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
        "numpy dtype": np.dtype("<f4"),
    }


# `Optional[int]` and `int | None` are one type, written in two ways.
EQUAL = {frozenset({"optional", "union"})}


def test_distinct_values_have_distinct_encodings():
    seen = {}
    for name, value in examples().items():
        other = seen.setdefault(digest_of_value(value), name)
        assert other == name or frozenset({other, name}) in EQUAL, f"{other} and {name} have one encoding"


def test_encodings_are_those_of_the_golden_file():
    found = {name: digest_of_value(value) for name, value in examples().items()}
    assert found == json.loads(GOLDEN.read_text()), "keys of every cache would change: that needs a decision record"


def test_fortran_and_c_arrays_with_equal_content_agree():
    import numpy as np

    array = np.arange(6).reshape(2, 3)
    assert digest_of_value(array) == digest_of_value(np.asfortranarray(array))


def test_the_order_of_a_set_does_not_count():
    assert digest_of_value({"a", "b", "c"}) == digest_of_value({"c", "b", "a"})


@pytest.mark.parametrize(
    "value", [object(), iter([]), open, (x for x in ())], ids=["object", "iterator", "function", "generator"]
)
def test_what_has_no_canonical_encoding_is_refused(value):
    with pytest.raises(UnencodableError):
        encode(value, lambda item: None)


def test_a_value_that_contains_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(UnencodableError, match="contains itself"):
        encode(value)
    instance = Plain()
    instance.me = instance
    with pytest.raises(UnencodableError, match="contains itself"):
        encode(instance)


def test_an_instance_of_somebody_elses_class_is_refused():
    with pytest.raises(UnencodableError, match="Plain"):
        encode(Plain(a=1), is_ours=lambda cls: False)


def test_the_refused_value_is_named_by_its_path():
    with pytest.raises(UnencodableError) as caught:
        encode(
            {"a": [1, Plain(lock=object())]},
            lambda item: ("x",) if isinstance(item, type) else None,
            is_ours=lambda c: c is Plain,
        )
    assert caught.value.path == "['a'][1].lock"


def test_paths_below_the_project_count_relative_to_it():
    def inside(folder):
        return encode([Path(folder) / "data", f"{folder}/data"], root=folder)

    assert inside("/home/ann/project") == inside("/srv/checkout")
    assert encode("/home/annex", root="/home/ann") == "/home/annex"
    assert encode("/data", root="/data") != encode("", root="/data")


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.timedeltas(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.sets(st.integers() | st.text(max_size=3), max_size=3)
    ),
    max_leaves=6,
)


def as_code_sees(value):
    """Equality finer than ``==``: types count, 0.0 is not -0.0, nan is nan, and dicts have an order."""
    if isinstance(value, (list, tuple)):
        return type(value), [as_code_sees(item) for item in value]
    if isinstance(value, dict):
        return dict, [(as_code_sees(key), as_code_sees(item)) for key, item in value.items()]
    if isinstance(value, set):
        return set, sorted(repr(item) for item in value)
    return type(value), repr(value)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(PLAIN, PLAIN)
def test_two_values_share_an_encoding_just_when_code_cannot_tell_them_apart(one, other):
    assert (frame("x", (encode(one),)) == frame("x", (encode(other),))) == (as_code_sees(one) == as_code_sees(other))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(PLAIN)
def test_a_copy_of_a_value_has_its_encoding(value):
    import copy

    assert encode(copy.deepcopy(value)) == encode(value)
