import datetime as dt
import enum
import math
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.content import INLINE_LIMIT_BYTES, describe, load, store
from mlflow_pipes.digests import Digest, digest_bytes, digest_record
from mlflow_pipes.model.artifact import Leaf, from_json, to_json
from mlflow_pipes.stores.memory import MemoryDatastore

STORE = MemoryDatastore()


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


def same(a, b):
    """Equal, of the same types all the way down, NaN equal to NaN and 0.0 not to -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True)
        )  # the order too
    if isinstance(a, dt.datetime | dt.time):
        return a == b and a.fold == b.fold and a.tzinfo == b.tzinfo and type(a.tzinfo) is type(b.tzinfo)
    if isinstance(a, Decimal):
        return str(a) == str(b)
    return a == b


def round_trip(value):
    return load(from_json(to_json(store(value, STORE))), STORE)


zones = st.sampled_from(
    [
        None,
        dt.UTC,
        dt.timezone(dt.timedelta(hours=-3, microseconds=5)),
        dt.timezone(dt.timedelta(0), "X"),
        ZoneInfo("Europe/Berlin"),
    ]
)
hashable_scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8) | st.floats(allow_nan=False)
    | st.dates() | st.timedeltas() | st.uuids() | st.fractions() | st.sampled_from([*Color, *Level])
)  # fmt: skip
scalars = (
    hashable_scalars
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.datetimes(timezones=zones)
    | st.times()
    | st.binary(max_size=8).map(bytearray)
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
)
keys = hashable_scalars | st.tuples(hashable_scalars, hashable_scalars) | st.frozensets(st.integers(), max_size=2)
plain_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["!", "v", "a", "tuple"]), inner, max_size=4)
        | st.sets(hashable_scalars, max_size=4)
        | st.frozensets(hashable_scalars, max_size=4)
    ),
    max_leaves=12,
)


@given(plain_values)
def test_plain_data_comes_back_exactly(value):
    artifact = store(value, STORE)
    assert isinstance(artifact, Leaf)
    assert artifact.codec in {"json", "text", "bytes"}
    assert same(round_trip(value), value)


@given(plain_values)
def test_what_came_back_has_the_identity_it_had(value):
    assert store(round_trip(value), STORE).identity == store(value, STORE).identity


@given(plain_values, plain_values)
def test_identities_are_equal_only_for_the_same_value(a, b):
    assert (store(a, STORE).identity == store(b, STORE).identity) == same(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, True), (1, 1.0), (0.0, -0.0), (0, False), ([1], (1,)), ("a", b"a"), (b"a", bytearray(b"a")), ([], {}), ("1", 1),
     ({1}, frozenset({1})), (Color.RED, 1), (Level.LOW, 1), (Decimal("1.0"), Decimal("1.00")), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
     ({1: 2}, {"1": 2}), ({1: 2}, {True: 2}), (None, "null"), ({"!": "tuple", "v": []}, ())],
)  # fmt: skip
def test_what_a_program_can_tell_apart_has_two_identities(a, b):
    assert store(a, STORE).identity != store(b, STORE).identity
    assert same(round_trip(a), a)
    assert same(round_trip(b), b)


def test_integers_of_any_size_are_kept():
    for value in (2**64, -(2**1023), 2**1024, -(2**70_000), [2**70_000, 1], {2**1024: 2**1024}):
        assert same(round_trip(value), value)
    assert describe(store(2**70_000, STORE)) == "plain data, 17,521 bytes"


@pytest.mark.parametrize("value", ["\ud800", "naïve 🎈", "", "\x00\n", ["\udfff"], {"\ud800": 1}])
def test_any_text_is_kept_also_lone_surrogates(value):
    assert same(round_trip(value), value)


def test_a_set_has_one_identity_whatever_order_it_iterates_in():
    a, b = set(range(1000)), set(range(999, -1, -1))
    assert store(a, STORE) == store(b, STORE)
    program = (
        "from mlflow_pipes.content import store; from mlflow_pipes.stores.memory import MemoryDatastore;"
        "print(store({'a', 'b', 'c', ('d', frozenset('xyz'))}, MemoryDatastore()).identity)"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_a_million_integers_are_one_leaf():
    artifact = store(list(range(1_000_000)), STORE)
    assert isinstance(artifact, Leaf)
    assert describe(artifact) == "list of 1,000,000"


def test_small_leaves_ride_inline_and_large_ones_do_not():
    store_ = MemoryDatastore()
    small, large = "x" * INLINE_LIMIT_BYTES, "x" * (INLINE_LIMIT_BYTES + 1)
    assert store(small, store_).inline == small.encode()
    assert list(store_.blobs()) == []
    assert store(large, store_).inline is None
    assert len(list(store_.blobs())) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [(42, "42"), ("abc", "'abc'"), ([1, 2], "[1, 2]"), (list(range(100)), "list of 100"), ("x" * 2000, "text, 2,000 bytes"),
     (b"12", "2 bytes"), ({"a": list(range(2000))}, "dict of 1"), (None, "None"), ("y" * 70, "'" + "y" * 59 + "…'"),
     (UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"), (Fraction(1, 3), "Fraction(1, 3)")],
)  # fmt: skip
def test_people_are_told_what_it_is(value, words):
    assert describe(store(value, STORE)) == words


def test_a_combined_flag_is_kept_though_it_has_no_name():
    assert round_trip(Access.READ | Access.WRITE) == Access.READ | Access.WRITE


def test_loading_twice_gives_two_values():
    artifact = store([1, [2]], STORE)
    load(artifact, STORE)[1].append(3)
    assert load(artifact, STORE) == [1, [2]]


@given(st.text(min_size=1), st.integers(0, 2**40), st.text())
def test_a_leafs_identity_is_the_digest_of_its_framed_record(codec, size, form):
    codec = codec.encode("ascii", "replace").decode()
    digest = Digest(digest_bytes(form.encode("utf-8", "surrogatepass")).hash, size)
    assert Leaf(codec, digest, form).identity == digest_record("pipes.leaf/1", (codec, digest.hash, size, form))
