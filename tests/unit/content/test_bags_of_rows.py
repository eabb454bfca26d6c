"""What rows a table has is one number, which depends on nothing else."""

import datetime as dt
from collections import Counter
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.content.codec import Declined
from mlflow_pipes.content.codecs.table import bag as bags
from mlflow_pipes.content.codecs.table.bag import Bag, bag_of
from mlflow_pipes.content.codecs.table.lanes import keyed_hashes
from mlflow_pipes.content.codecs.table.logical import logical_schema
from mlflow_pipes.content.codecs.table.rows import encode_rows

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, float("nan"), 1.0]))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=70)
MOMENTS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(lambda t: t.replace(tzinfo=dt.UTC))  # noqa: DTZ001
TYPES = {
    "int": (pa.int64(), INTEGERS),
    "small": (pa.uint8(), st.integers(0, 255)),
    "float": (pa.float64(), FLOATS),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), TEXTS),
    "bytes": (pa.binary(), st.binary(max_size=70)),
    "fixed": (pa.binary(3), st.binary(min_size=3, max_size=3)),
    "decimal": (pa.decimal128(10, 2), st.decimals(-(10**7), 10**7, places=2).map(abs)),
    "moment": (pa.timestamp("us", "UTC"), MOMENTS),
    "zoned": (pa.timestamp("us", "Europe/Berlin"), MOMENTS),
    "day": (pa.date32(), st.dates()),
    "nothing": (pa.null(), st.none()),
    "list": (pa.list_(pa.float64()), st.lists(st.one_of(st.none(), FLOATS), max_size=3)),
    "texts": (pa.list_(pa.string()), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=3)),
    "pair": (pa.list_(pa.int64(), 2), st.lists(INTEGERS, min_size=2, max_size=2)),
    "map": (pa.map_(pa.string(), pa.int64()), st.lists(st.tuples(st.text(max_size=2), INTEGERS), max_size=2)),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries(
            {"a": st.one_of(st.none(), st.integers(0, 2)), "b": st.one_of(st.none(), st.text(max_size=1))}
        ),
    ),
    "lists": (
        pa.list_(pa.list_(pa.string())),
        st.lists(st.lists(st.sampled_from(["", "a", "aa"]), max_size=2), max_size=2),
    ),
}


@st.composite
def tables(draw, min_rows=0):
    names = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(min_rows, 6))
    columns = {}
    for name in names:
        kind, values = TYPES[name]
        columns[name] = pa.array(draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


def bag(table):
    return bag_of(table.columns, table.num_rows)


def said(table):
    """The rows as people would tell them apart: NaN is NaN, 0.0 is not -0.0, nothing is not empty."""
    return Counter(repr(sorted(row.items())) for row in table.to_pylist())


@given(tables(min_rows=1), st.data())
def test_neither_order_nor_division_changes_it(table, data):
    order = data.draw(st.permutations(range(table.num_rows)))
    cut = data.draw(st.integers(0, table.num_rows))
    shuffled = table.take(pa.array(order, pa.int64()))
    assert bag(shuffled) == bag(table)
    assert bag(table.slice(0, cut)) + bag(table.slice(cut)) == bag(table)
    assert bag(pa.concat_tables([shuffled.slice(cut), shuffled.slice(0, cut)])) == bag(table)


@given(tables(), st.data())
def test_tables_of_one_schema_agree_exactly_when_they_have_the_same_rows(table, data):
    drawn = {
        name: pa.array(
            [data.draw(st.one_of(st.just(value), st.none(), TYPES[name][1])) for value in table[name].to_pylist()],
            table.schema.field(name).type,
        )
        for name in table.column_names
    }
    other = pa.table(drawn)
    assert (bag(table) == bag(other)) == (said(table) == said(other))


@given(tables())
def test_each_row_is_hashed_as_the_package_does_it(table):
    rows = encode_rows(table.columns, table.num_rows)
    content = memoryview(rows.content)
    total = 0
    for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        assert (end - start) % 64 == 0
        total += int.from_bytes(blake3(content[start:end], key=bags._KEY).digest(), "little")
    assert bag(table) == Bag(table.num_rows, total % 2**256)


@pytest.mark.parametrize("blocks", [1, 2, 3, 16])
def test_many_hashes_at_once_are_those_of_the_package(blocks):
    messages = np.random.default_rng(blocks).integers(0, 2**32, (9_000 if blocks == 1 else 70, blocks, 16), np.uint32)
    key = bytes(range(32))
    found = keyed_hashes(messages, key)
    for number in (0, 1, len(messages) - 1):
        assert found[:, number].astype("<u4").tobytes() == blake3(messages[number].tobytes(), key=key).digest()


def test_rows_of_any_length_add_up():
    texts = ["x" * length for length in (0, 30, 60, 100, 400, 600, 5_000)] * 100
    table = pa.table({"text": texts, "number": range(len(texts))})
    one_by_one = sum((bag(table.slice(number, 1)) for number in range(len(texts))), Bag())
    assert bag(table) == one_by_one


def test_how_values_lie_in_memory_changes_nothing():
    texts = pa.array(["a", None, "bb", "a", "", "ccc"])
    lists = pa.array([[1], None, [], [2, None], [3], [4]])
    table = pa.table({"t": texts, "l": lists})
    as_stored = {
        "large": pa.table({"t": texts.cast(pa.large_string()), "l": lists.cast(pa.large_list(pa.int64()))}),
        "view": pa.table({"t": texts.cast(pa.string_view()), "l": lists}),
        "chunks": pa.concat_tables([table.slice(0, 1), table.slice(1, 4), table.slice(5)]),
        "offset": pa.concat_tables([table, table]).slice(6),
    }
    for name, other in as_stored.items():
        assert bag(other) == bag(table), name
        assert logical_schema(other.schema) == logical_schema(table.schema), name
    encoded = pa.table({"t": texts.dictionary_encode(), "l": lists})
    assert bag(encoded) == bag(table)
    assert logical_schema(encoded.schema) != logical_schema(table.schema)


def test_what_could_be_taken_for_each_other_is_not():
    def of(values, kind):
        table = pa.table({"x": pa.array(values, kind)})
        return logical_schema(table.schema), bag(table)

    moment = dt.datetime(2020, 7, 1, tzinfo=dt.UTC)
    cases = [
        ([None], pa.int64()), ([0], pa.int64()), ([0], pa.int32()), ([0], pa.uint64()), ([0.0], pa.float64()),
        ([-0.0], pa.float64()), ([float("nan")], pa.float64()), ([None], pa.float64()), ([""], pa.string()),
        ([None], pa.string()), ([b""], pa.binary()), (["\0"], pa.string()), ([[]], pa.list_(pa.int64())),
        ([[None]], pa.list_(pa.int64())), ([None], pa.list_(pa.int64())), ([[0]], pa.list_(pa.int64())),
        ([False], pa.bool_()), ([None], pa.bool_()), ([None], pa.null()), ([{"a": None}], pa.struct([("a", pa.int64())])),
        ([None], pa.struct([("a", pa.int64())])), ([moment], pa.timestamp("us", "UTC")),
        ([moment], pa.timestamp("us", "Europe/Berlin")), ([moment.replace(tzinfo=None)], pa.timestamp("us")),
        ([moment], pa.timestamp("ns", "UTC")), ([Decimal("1.5")], pa.decimal128(5, 1)),
        ([Decimal("1.50")], pa.decimal128(5, 2)), ([0, 0], pa.int64()),
    ]  # fmt: skip
    assert len({of(*case) for case in cases}) == len(cases)
    assert of([moment.astimezone(ZoneInfo("Asia/Tokyo"))], pa.timestamp("us", "UTC")) == of(
        [moment], pa.timestamp("us", "UTC")
    )


def test_cells_do_not_run_into_each_other():
    def of(*columns):
        return bag(pa.table({str(number): [value] for number, value in enumerate(columns)}))

    assert of("a", "b") != of("ab", "") != of("", "ab")
    assert of(["a", "b"], "") != of(["ab"], "") != of(["a"], "b")
    assert bag(pa.table({"a": [1], "b": [2]})) != bag(pa.table({"a": [2], "b": [1]}))


def test_all_nan_are_one():
    payloads = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], np.uint64).view(np.float64)
    assert len({bag(pa.table({"x": payloads[number : number + 1]})) for number in range(3)}) == 1


def test_types_without_an_encoding_are_declined():
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    with pytest.raises(Declined):
        bag_of([union], 2)


def test_it_stays_as_it_is():
    """Keys of years hang on it: a change makes every step below a table in parts run again."""
    table = pa.table({"n": [1, None, 3], "t": ["a", None, "ccc"], "f": [0.5, float("nan"), -0.0], "l": [[1], None, []]})
    assert f"{bag(table).total:064x}" == GOLDEN_TOTAL
    assert logical_schema(table.schema) == GOLDEN_SCHEMA


GOLDEN_TOTAL = "582b55b1e1761f1c82b58873612ac35b025ab6f0aad561e89c10e42d9723b302"
GOLDEN_SCHEMA = "4de0980d51416cf82a3c5cf900013aa30eac70216855f71e5ff90ad9138a6fff"
