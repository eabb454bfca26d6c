import datetime as dt
import itertools
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_pipes.content import describe, load, store
from mlflow_pipes.errors import NotFoundError, UnstorableOutputError
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore

STORE = MemoryDatastore()


def columns():
    """One column of every dtype that Arrow holds for pandas, with and without missing values."""
    return {
        "float": [1.0, np.nan, -0.0],
        "int": [1, 2, 3],
        "small": np.array([1, 2, 3], np.uint8),
        "half": np.array([1, 2, np.nan], np.float16),
        "big": np.array([1, 2, 3], ">i4").astype("=i4"),
        "bool": [True, False, True],
        "text": ["x", None, "z"],
        "string": pd.array(["x", None, "z"], dtype="string"),
        "python_string": pd.array(["x", None, "z"], dtype=pd.StringDtype("python")),
        "objects": pd.Series(["x", None, "z"], dtype=object),
        "objects_nan": pd.Series(["x", np.nan, "z"], dtype=object),
        "bytes": pd.Series([b"x", None, b""], dtype=object),
        "dates": pd.Series([dt.date(2020, 1, 1), None, dt.date(1, 1, 1)], dtype=object),
        "category": pd.Categorical(["b", None, "a"], categories=["c", "b", "a"]),
        "ordered": pd.Categorical([2, 1, 2], categories=[2, 1], ordered=True),
        "time": pd.to_datetime(["2020-01-01", None, "2021-01-01T00:00:00.000001"], format="ISO8601"),
        "seconds": np.array(["2020-01-01", "NaT", "2021-01-01"], "M8[s]"),
        "zoned": pd.to_datetime(["2020-07-01", None, "2021-01-01"]).tz_localize("Europe/Berlin"),
        "offset": pd.to_datetime(["2020-07-01", None, "2021-01-01"]).tz_localize("UTC+02:00"),
        "delta": pd.to_timedelta([1, None, 3], unit="s"),
        "Int8": pd.array([1, None, 3], dtype="Int8"),
        "UInt64": pd.array([1, None, 2**64 - 1], dtype="UInt64"),
        "Float64": pd.array([1.5, None, 3], dtype="Float64"),
        "boolean": pd.array([True, None, False], dtype="boolean"),
        "arrow": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        "decimal": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
    }


INDEXES = {
    "range": pd.RangeIndex(5, 8, name="row"),
    "dates": pd.date_range("2020", periods=3, freq="MS", name="day"),
    "zoned": pd.date_range("2020", periods=3, freq="h", tz="UTC"),
    "texts": pd.Index(["a", "b", "b"], name=("x", 1)),
    "objects": pd.Index(["a", "b", None], dtype=object),
    "floats": pd.Index([1.5, np.nan, 2]),
    "category": pd.CategoricalIndex(["a", "b", "a"]),
    "multi": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", None]),
    "delta": pd.to_timedelta([1, 2, 3], unit="D"),
}
LABELS = {
    "range": pd.RangeIndex(2),
    "ints": pd.Index([7, 3]),
    "mixed": pd.Index(["a", 1], dtype=object),
    "tuples": pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    "double": pd.Index(["a", "a"], name="twice"),
    "dates": pd.date_range("2020", periods=2),
    "multi": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"]),
    "objects": pd.Index(["a", "b"], dtype=object),
    "strings": pd.Index(["a", "b"], dtype="string"),
}


def assert_comes_back(value):
    artifact = store(value, STORE)
    assert artifact.codec == "table", artifact.form
    back = load(artifact, STORE)
    check = pd.testing.assert_frame_equal if isinstance(value, pd.DataFrame) else pd.testing.assert_series_equal
    check(back, value)
    assert store(back, STORE) == artifact


@pytest.mark.parametrize("name", columns())
def test_a_pandas_column_of_any_dtype_comes_back_exactly(name):
    frame = pd.DataFrame({name: columns()[name]})
    assert_comes_back(frame)
    assert_comes_back(frame[name])
    assert_comes_back(frame.iloc[:0])
    assert_comes_back(frame.iloc[1:])


@pytest.mark.parametrize("name", columns())
def test_how_a_pandas_column_lies_in_memory_changes_no_identity(name):
    frame = pd.DataFrame({name: columns()[name], "other": [1.0, 2.0, 3.0]})
    strided = pd.concat([frame, frame], ignore_index=True).iloc[::2]
    pieces = pd.concat([frame.iloc[:1], frame.iloc[1:1], frame.iloc[1:]])
    for again in (frame.copy(), pieces, frame.iloc[:, ::-1].iloc[:, ::-1], frame.iloc[::-1].iloc[::-1]):
        pd.testing.assert_frame_equal(again, frame)
        again.index = frame.index
        assert store(again, STORE) == store(frame, STORE)
    del strided


@pytest.mark.parametrize("name", INDEXES)
def test_any_index_comes_back_exactly(name):
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=INDEXES[name])
    assert_comes_back(frame)
    assert_comes_back(frame["a"])
    assert_comes_back(frame.iloc[:0])


@pytest.mark.parametrize("name", LABELS)
def test_any_column_labels_come_back_exactly(name):
    frame = pd.DataFrame([[1, 2.0]])
    frame.columns = LABELS[name]
    assert_comes_back(frame)


def test_empty_frames_names_and_attributes_come_back():
    assert_comes_back(pd.DataFrame())
    assert_comes_back(pd.DataFrame(index=[1, 2]))
    assert_comes_back(pd.DataFrame(columns=["a", "b"]))
    assert_comes_back(pd.Series([1.0], name=("a", 1)))
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = {"a": "km"}
    assert load(store(frame, STORE), STORE).attrs == {"unit": {"a": "km"}}


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}),
        pd.DataFrame({"a": pd.Series([None, np.nan], dtype=object)}),
        pd.DataFrame({"a": pd.Series([1.5, "x"], dtype=object)}),
        pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)}),
        pd.DataFrame({"a": [1j]}),
        pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="D")}),
        pd.DataFrame({"a": pd.interval_range(0, 2)}),
        pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
        pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    ],
)
def test_what_arrow_would_lose_is_pickled(frame):
    artifact = store(frame, STORE)
    assert artifact.codec == "pickle"
    pd.testing.assert_frame_equal(load(artifact, STORE), frame)


def test_subclasses_of_frames_keep_their_class():
    assert type(load(store(SpecialFrame({"a": [1]}), STORE), STORE)) is SpecialFrame


class SpecialFrame(pd.DataFrame):
    @property
    def _constructor(self):
        return SpecialFrame


def test_users_may_change_what_they_loaded_in_place_and_the_blob_stays(tmp_path):
    datastore = LocalDatastore(tmp_path)
    frame = pd.DataFrame(columns()).loc[[0, 1, 2] * 3000].reset_index(drop=True)
    artifact = store(frame, datastore)
    mine = load(artifact, datastore)
    mine.loc[0, "float"] = 9.0
    mine.iloc[1, 1] = 9
    mine["int"] += 1
    mine.loc[0, "bool"] = False
    mine.loc[0, "text"] = "new"
    mine.loc[0, "Int8"] = 5
    mine.loc[0, "boolean"] = False
    mine.loc[0, "time"] = pd.Timestamp("2000-01-01")
    mine.loc[0, "zoned"] = pd.Timestamp("2000-01-01", tz="Europe/Berlin")
    mine.loc[0, "category"] = "c"
    mine.at[2, "float"] = 7.0
    mine.fillna({"float": 0.0})
    mine["float"].to_numpy(copy=True)[0] = 3
    np.asarray(mine[["float", "int"]].to_numpy())
    mine.sort_values("float")
    mine["new"] = 1
    del mine["half"]
    assert mine.loc[0, "float"] == 9.0
    pd.testing.assert_frame_equal(load(artifact, datastore), frame)


CHUNKED = {
    "int": pa.array([1, None, 3, 4, None, 6]),
    "float": pa.array([1.0, float("nan"), None, 4, 5, -0.0]),
    "bool": pa.array([True, None, False, True, True, None]),
    "text": pa.array(["a", None, "", "dd", "e", "ff"]),
    "large_text": pa.array(["a", None, "", "dd", "e", "ff"], pa.large_string()),
    "text_view": pa.array(["a", None, "", "a text longer than twelve bytes", "e", "ff"], pa.string_view()),
    "bytes": pa.array([b"a", None, b"", b"dd", b"e", b"ff"]),
    "fixed": pa.array([b"ab", None, b"cd", b"ef", b"gh", b"ij"], pa.binary(2)),
    "time": pa.array([1, None, 3, 4, 5, 6], pa.timestamp("us", "UTC")),
    "decimal": pa.array([1, None, 3, 4, 5, 6], pa.decimal128(12, 2)),
    "list": pa.array([[1], None, [], [2, None], [3], [4, 5]]),
    "large_list": pa.array([["x"], None, [], ["y", None], ["z"], []], pa.large_list(pa.string())),
    "fixed_list": pa.array([[1, 2], None, [3, None], [4, 5], [6, 7], None], pa.list_(pa.int8(), 2)),
    "struct": pa.array(
        [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 4, "b": None}, None, {"a": 6, "b": "z"}]
    ),
    "map": pa.array([[("k", 1)], None, [], [("a", 2), ("b", None)], [("c", 3)], []], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["a", None, "b", "a", "c", "c"]).dictionary_encode(),
    "null": pa.nulls(6),
    "nested": pa.array([[{"a": [1, None]}], None, [], [None, {"a": None}], [{"a": []}], [{"a": [2]}]]),
}


@settings(max_examples=15)
@given(st.lists(st.integers(0, 6), max_size=4), st.integers(0, 6), st.data())
def test_how_an_arrow_table_is_chunked_and_sliced_changes_no_identity(cuts, start, data):
    end = data.draw(st.integers(start, 6))
    table = pa.table({name: array.slice(start, end - start) for name, array in CHUNKED.items()})
    fresh = pa.table(
        {name: pa.array(array.slice(start, end - start).to_pylist(), array.type) for name, array in CHUNKED.items()}
    )
    bounds = [0, *sorted(min(cut, end - start) for cut in cuts), end - start]
    chunked = pa.concat_tables([table.slice(a, b - a) for a, b in itertools.pairwise(bounds)])
    padded = pa.concat_tables([table, table, table]).slice(end - start, end - start)
    expected = store(fresh, STORE)
    assert expected.codec == "table"
    for one in (table, chunked, padded, table.combine_chunks()):
        assert repr(one.to_pydict()) == repr(table.to_pydict())
        assert store(one, STORE) == expected
    back = load(expected, STORE)
    back.validate(full=True)
    assert back.to_pydict().keys() == fresh.to_pydict().keys()
    assert repr(back.to_pydict()) == repr(fresh.to_pydict())
    assert back.schema == fresh.schema


def test_what_lies_under_nulls_and_what_is_unreachable_changes_no_identity():
    valid = pa.array([True, False, True]).buffers()[1]
    for hidden, kind in [([1, 2, 3], pa.int32()), ([True, True, False], pa.bool_())]:
        dirty = pa.Array.from_buffers(kind, 3, [valid, pa.array(hidden, kind).buffers()[1]])
        clean = pa.array([hidden[0], None, hidden[2]], kind)
        assert dirty.equals(clean)
        assert store(pa.table({"a": dirty}), STORE) == store(pa.table({"a": clean}), STORE)
    texts = pa.array(["a", "hidden", "b"])
    dirty = pa.Array.from_buffers(pa.string(), 3, [valid, *texts.buffers()[1:]])
    assert store(pa.table({"a": dirty}), STORE) == store(pa.table({"a": pa.array(["a", None, "b"])}), STORE)
    lists = pa.array([[1], [99], [2]])
    dirty = pa.Array.from_buffers(lists.type, 3, [valid, lists.buffers()[1]], children=[lists.values])
    assert store(pa.table({"a": dirty}), STORE) == store(pa.table({"a": pa.array([[1], None, [2]])}), STORE)
    unused = pa.DictionaryArray.from_arrays(pa.array([2, 1], pa.int32()), pa.array(["never", "b", "a"]))
    assert store(pa.table({"a": unused}), STORE) == store(
        pa.table({"a": pa.array(["a", "b"]).dictionary_encode()}), STORE
    )


def test_ordered_dictionaries_and_categories_are_part_of_the_value():
    def table(words):
        return pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(words), ordered=True)})

    assert store(table(["a"]), STORE) != store(table(["a", "b"]), STORE)
    one, other = (pd.DataFrame({"a": pd.Categorical(["a"], categories=words)}) for words in (["a", "b"], ["b", "a"]))
    assert store(one, STORE) != store(other, STORE)


def test_versions_of_libraries_in_metadata_change_no_identity():
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="i"))
    table = pa.Table.from_pandas(frame)
    metadata = table.schema.metadata[b"pandas"]
    other = table.replace_schema_metadata(
        {
            b"z": b"1",
            b"pandas": metadata.replace(pd.__version__.encode(), b"0.1").replace(pa.__version__.encode(), b"0.2"),
        }
    )
    assert store(other, STORE) == store(table.replace_schema_metadata({b"pandas": metadata, b"z": b"1"}), STORE)
    pd.testing.assert_frame_equal(load(store(table, STORE), STORE, pd.DataFrame), frame)


def polars_frame():
    return pl.DataFrame(
        {
            "int": [1, None], "text": ["x", None], "list": [[1], []], "struct": [{"a": 1}, None], "null": [None, None],
            "enum": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a", "c"])), "category": pl.Series(["a", "b"], dtype=pl.Categorical),
            "decimal": pl.Series(["1.5", None]).cast(pl.Decimal(10, 2)), "duration": [dt.timedelta(1), None],
            "array": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2)), "time": [dt.time(1), None], "bytes": [b"x", None],
            "moment": [pd.Timestamp("2020-01-01").to_pydatetime(), None], "bool": [True, None],
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", polars_frame().columns)
def test_a_polars_column_of_any_dtype_comes_back_exactly(name):
    frame = polars_frame().select(name)
    artifact = store(frame, STORE)
    assert artifact.codec == "table"
    polars.testing.assert_frame_equal(load(artifact, STORE), frame)
    again = pl.concat([frame.slice(0, 1), frame.slice(1, 1)], rechunk=False)
    assert store(again, STORE) == artifact
    assert store(load(artifact, STORE), STORE) == artifact


@pytest.mark.parametrize("made", ["pandas", "polars", "arrow"])
def test_the_consumer_gets_the_class_that_it_annotates(made):
    plain = {"a": [1, 2, 3], "b": ["x", None, "z"], "c": [1.5, None, 2.5]}
    value = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}[made](plain)
    artifact = store(value, STORE)
    assert type(load(artifact, STORE)) is type(value)
    for wanted, kind in [
        (pd.DataFrame, pd.DataFrame), (pl.DataFrame, pl.DataFrame), (pa.Table, pa.Table), (pa.RecordBatch, pa.RecordBatch),
        (pd.DataFrame | None, pd.DataFrame), (Annotated[pl.DataFrame, "x"], pl.DataFrame), (Annotated[pa.Table | None, 1], pa.Table),
        (pd.DataFrame | pl.DataFrame | pa.Table, type(value)), (Any, type(value)), (int, type(value)),
    ]:  # fmt: skip
        assert type(load(artifact, STORE, wanted)) is kind
    assert load(artifact, STORE, pa.Table).to_pydict() == plain
    assert load(artifact, STORE, pl.DataFrame).to_dict(as_series=False) == plain
    assert load(artifact, STORE, pa.RecordBatchReader).read_all().to_pydict() == plain
    pd.testing.assert_frame_equal(load(artifact, STORE, pd.DataFrame), pd.DataFrame(plain))
    mine = load(artifact, STORE, pd.DataFrame)
    mine.loc[0, "a"] = 5
    mine.loc[0, "c"] = 5.0
    assert load(artifact, STORE, pa.Table).to_pydict() == plain


def test_an_index_that_is_more_than_a_range_is_a_column_elsewhere():
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index(["x", "y"], name="key"))
    for wanted in (pa.Table, pl.DataFrame):
        assert load(store(frame, STORE), STORE, wanted)["key"].to_pylist() if wanted is pa.Table else True
    assert load(store(frame["a"], STORE), STORE, pd.DataFrame)["a"].tolist() == [1.0, 2.0]
    assert load(store(frame, STORE), STORE, pd.Series).tolist() == [1.0, 2.0]


def test_lazy_tables_are_refused_with_what_to_write():
    with pytest.raises(UnstorableOutputError, match=r"return query.collect\(\)"):
        store(pl.LazyFrame({"a": [1]}), STORE)
    with pytest.raises(UnstorableOutputError, match=r"return reader.read_all\(\)"):
        store({"r": pa.table({"a": [1]}).to_reader()}, STORE)


def test_people_are_told_the_shape():
    assert describe(store(pd.DataFrame({"a": range(1234), "b": 1}), STORE)) == "table 1,234 × 2"  # noqa: RUF001
    assert describe(store(pd.Series([1, 2]), STORE)) == "series 2"
    assert describe(store(pl.DataFrame({"a": [1]}), STORE)) == "table 1 × 1"  # noqa: RUF001
    assert describe(store(pa.table({"a": [1, 2]}), STORE)) == "table 2 × 1"  # noqa: RUF001


def test_a_table_is_not_taken_apart():
    from mlflow_pipes.content import select

    with pytest.raises(NotFoundError, match=r"stored as one table \(pandas.DataFrame 1x1\)"):
        select(store(pd.DataFrame({"a": [1]}), STORE), ("a",), STORE)


def test_the_blob_is_a_plain_arrow_stream():
    blob = STORE.read(store(pd.DataFrame({"a": range(1000)}), STORE).digest)
    assert pa.ipc.open_stream(blob).read_all().column_names == ["a"]
