"""Data frames and arrays of Dask as values; Dask computes in threads of this process."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlflow_pipes.content import ComputingError, blobs_of, describe, is_whole, load, store
from mlflow_pipes.errors import BlobMissingError, UnstorableOutputError
from mlflow_pipes.model.artifact import Leaf, from_json, to_json
from mlflow_pipes.stores.memory import MemoryDatastore

pytest.importorskip("dask.dataframe")
import dask.array as da
import dask.bag
import dask.dataframe as dd

from mlflow_pipes.content.codec import Storing
from mlflow_pipes.content.codecs.chunked import ChunkedCodec, chunks_of, sliced


@pytest.fixture
def datastore():
    return MemoryDatastore()


def flights(rows=100):
    generator = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "carrier": pd.Categorical(generator.choice(["UA", "B6", "AA"], rows)),
            "origin": generator.choice(["JFK", "EWR"], rows),
            "delay": np.where(generator.random(rows) < 0.1, np.nan, generator.random(rows)),
            "seats": pd.array(generator.integers(0, 9, rows), dtype="Int16"),
            "left": pd.date_range("2013-01-01", periods=rows, freq="h", tz="America/New_York"),
            "fits": pd.array([None if number % 9 == 0 else number % 2 == 0 for number in range(rows)], dtype="boolean"),
        }
    )


def test_a_frame_comes_back_as_it_was(datastore):
    made = dd.from_pandas(flights(), npartitions=3)
    frame = made.compute()  # Dask has text of pyarrow's where pandas has its own
    artifact = store(made, datastore)
    again = load(artifact, datastore)
    assert isinstance(again, dd.DataFrame)
    assert again.npartitions == 3
    assert again.divisions[-1] == 99
    pd.testing.assert_frame_equal(again.compute(), frame, check_freq=False)
    pd.testing.assert_frame_equal(load(artifact, datastore, pd.DataFrame), frame, check_freq=False)
    pd.testing.assert_frame_equal(again[["delay", "origin"]].compute(), frame[["delay", "origin"]])
    assert describe(artifact) == "table 100 × 6 in parts (dask)"  # noqa: RUF001


def test_every_class_of_table_is_given(datastore):
    frame = flights()
    artifact = store(dd.from_pandas(frame, npartitions=3), datastore)
    arrow = load(artifact, datastore, pa.Table)
    assert arrow["origin"].to_pylist() == frame["origin"].tolist()
    assert load(artifact, datastore, pl.DataFrame)["seats"].to_list() == frame["seats"].tolist()
    assert load(artifact, datastore, pa.RecordBatchReader).read_all().num_rows == 100


@pytest.mark.parametrize("made", [flights(), pa.table({"x": [1, None, 3]}), pl.DataFrame({"x": ["a", None]})], ids=type)
@pytest.mark.parametrize("repeated", [1, 300])
def test_a_plain_table_is_given_to_who_asks_for_a_dask_frame(datastore, made, repeated):
    if repeated > 1:
        made = {
            pd.DataFrame: lambda: pd.concat([made] * repeated, ignore_index=True),
            pa.Table: lambda: pa.concat_tables([made] * repeated),
            pl.DataFrame: lambda: pl.concat([made] * repeated),
        }[type(made)]()
    artifact = store(made, datastore)
    frame = load(artifact, datastore, dd.DataFrame)
    assert isinstance(frame, dd.DataFrame)
    assert len(frame) == len(made)
    assert frame.compute().isna().sum().sum() == load(artifact, datastore, pd.DataFrame).isna().sum().sum()


def identity(frame, datastore):
    return store(frame, datastore).identity


def test_partitions_and_their_order_change_nothing(datastore):
    frame = flights()
    whole = dd.from_pandas(frame, npartitions=1)
    known = identity(whole, datastore)
    assert identity(dd.from_pandas(frame, npartitions=7), datastore) == known
    assert identity(whole.repartition(npartitions=4), datastore) == known
    assert identity(dd.from_pandas(frame.iloc[::-1], npartitions=2, sort=False), datastore) == known
    halves = [dd.from_pandas(half.reset_index(drop=True), npartitions=1) for half in (frame[60:], frame[:60])]
    assert identity(dd.concat(halves, interleave_partitions=True), datastore) == known
    assert identity(whole[whole["delay"] > 2], datastore) == identity(whole[whole["delay"] > 3], datastore) != known
    assert identity(dd.from_pandas(frame.assign(seats=frame["seats"] + 1), npartitions=3), datastore) != known
    assert identity(dd.from_pandas(frame[:99], npartitions=3), datastore) != known


def test_an_index_that_says_something_is_kept(datastore):
    frame = flights().drop(columns="left").set_index(pd.date_range("2013", periods=100, freq="h", name="hour"))
    ordered = dd.from_pandas(frame, npartitions=4)
    artifact = store(ordered, datastore)
    again = load(artifact, datastore)
    assert again.divisions == ordered.divisions
    pd.testing.assert_frame_equal(again.compute(), ordered.compute(), check_freq=False)
    assert identity(ordered.repartition(npartitions=2), datastore) == artifact.identity
    assert identity(dd.from_pandas(frame.rename_axis("other"), npartitions=4), datastore) != artifact.identity
    named = dd.from_pandas(flights().rename_axis("row"), npartitions=3)
    assert identity(named, datastore) == identity(named.repartition(npartitions=1), datastore)
    assert load(store(named, datastore), datastore, pd.DataFrame).index.name == "row"


def test_parts_without_rows_are_left_out(datastore):
    frame = dd.from_pandas(flights().assign(left_too=flights()["left"]).set_index("left"), npartitions=5)
    late = frame[frame["left_too"] >= frame.divisions[3]]
    again = load(store(late, datastore), datastore)
    assert again.npartitions == 2
    assert again.divisions == frame.divisions[3:]
    assert len(again) == len(late)
    empty = load(store(frame[frame["delay"] > 2], datastore), datastore, pd.DataFrame)
    assert empty.empty
    assert list(empty.columns) == list(frame.columns)


def test_all_blobs_are_known_and_one_that_is_gone_is_named(datastore):
    artifact = store(dd.from_pandas(flights(), npartitions=3), datastore)
    blobs = blobs_of(artifact, datastore)
    assert len(blobs) == 4
    assert blobs_of(from_json(to_json(artifact)), datastore) == blobs
    assert is_whole(artifact, datastore)
    part = min(blobs - {artifact.layout})
    datastore.delete([part])
    assert not is_whole(artifact, datastore)
    with pytest.raises(BlobMissingError, match=part.hash) as gone:
        load(artifact, datastore)
    assert gone.value.blob == str(part)
    datastore.delete([artifact.layout])
    assert blobs_of(artifact, datastore) == {artifact.layout}
    assert not is_whole(artifact, datastore)


def test_parts_that_differ_are_named(datastore):
    def mixed(part):
        return part.assign(x=part["x"].astype("float64")) if part["x"].iloc[0] > 4 else part

    frame = dd.from_pandas(pd.DataFrame({"x": range(10)}), npartitions=2)
    with pytest.raises(UnstorableOutputError, match=r"part 1 has column 'x' as double, and part 0 has int64.*astype"):
        store(frame.map_partitions(mixed, meta={"x": "int64"}), datastore)


def test_what_cannot_be_stored_says_what_to_do(datastore):
    frame = dd.from_pandas(pd.DataFrame({"x": range(10)}), npartitions=2)
    with pytest.raises(UnstorableOutputError, match="to_frame"):
        store(frame["x"], datastore)
    with pytest.raises(UnstorableOutputError, match=r"to_dataframe\(\)"):
        store(dask.bag.from_sequence([1]), datastore)
    objects = dd.from_pandas(pd.DataFrame({"x": [1 + 2j]}), npartitions=1)
    with pytest.raises(UnstorableOutputError, match="complex"):
        store(objects, datastore)
    unknown = dd.from_pandas(flights(), npartitions=2).astype({"origin": "category"})
    with pytest.raises(UnstorableOutputError, match=r"categories of column 'origin'.*categorize"):
        store(unknown, datastore)


def test_code_that_fails_while_a_frame_is_computed_is_the_steps(datastore):
    def fail(part):
        raise ZeroDivisionError("mine")

    frame = dd.from_pandas(pd.DataFrame({"x": range(10)}), npartitions=2).map_partitions(fail, meta={"x": "int64"})
    with pytest.raises(ComputingError) as raised:
        store(frame, datastore)
    assert isinstance(raised.value.cause, ZeroDivisionError)


@pytest.mark.parametrize(
    "array", [np.arange(12.0).reshape(3, 4), np.float32(5), np.empty((0, 3)), np.arange(4).astype("M8[D]")], ids=str
)
def test_an_array_comes_back_as_it_was(datastore, array):
    artifact = store(da.from_array(array), datastore)
    again = load(artifact, datastore)
    assert isinstance(again, da.Array)
    np.testing.assert_array_equal(again.compute(), array)
    whole = load(artifact, datastore, np.ndarray)
    assert isinstance(whole, np.ndarray)
    np.testing.assert_array_equal(whole, array)


SMALL = ChunkedCodec(block_bytes=800)


def in_small_blocks(array, datastore):
    encoded = SMALL.encode(array, Storing(datastore, None, "it"))
    return Leaf("chunked", datastore.put((encoded.pieces,)), encoded.form)


def test_chunks_of_an_array_change_nothing(datastore):
    array = np.arange(1000.0).reshape(50, 20)
    artifact = in_small_blocks(da.from_array(array, chunks=(7, 20)), datastore)
    assert in_small_blocks(da.from_array(array, chunks=(50, 3)), datastore) == artifact
    assert in_small_blocks(da.from_array(array.astype(">f8")), datastore) == artifact
    assert load(artifact, datastore).numblocks == (10, 1)
    np.testing.assert_array_equal(load(artifact, datastore, np.ndarray), array)
    np.testing.assert_array_equal(load(artifact, datastore)[13:20, 3].compute(), array[13:20, 3])
    assert len(blobs_of(artifact, datastore)) == 11
    unknown = da.from_array(array, chunks=(7, 20))
    assert in_small_blocks(unknown[unknown[:, 0] >= 0], datastore) == artifact


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((), ()),
        ((0,), ((0,),)),
        ((250,), ((100, 100, 50),)),
        ((3, 200), ((1, 1, 1), (100, 100))),
        ((2, 2), ((2,), (2,))),
    ],
    ids=str,
)
def test_blocks_follow_from_shape_and_dtype(shape, chunks):
    assert chunks_of(shape, 8, block_bytes=800) == chunks


def test_a_plain_array_is_given_to_who_asks_for_a_dask_array(datastore):
    array = np.arange(1000).reshape(20, 50)
    leaf = store(array, datastore)
    assert isinstance(load(leaf, datastore, da.Array), da.Array)
    lazy = sliced(leaf, datastore, block_bytes=800)
    assert lazy.numblocks == (10, 1)
    np.testing.assert_array_equal(lazy.compute(), array)
    np.testing.assert_array_equal(load(store(np.arange(3), datastore), datastore, da.Array).compute(), np.arange(3))


def test_arrays_of_what_is_no_number_are_refused(datastore):
    with pytest.raises(UnstorableOutputError, match="object"):
        store(da.from_array(np.array(["a", None], object), chunks=2), datastore)


def test_identities_stay_as_they_are(datastore):
    """Keys of years hang on them; say in the changelog why they change."""
    frame = dd.from_pandas(pd.DataFrame({"n": [1, 2, 3], "x": [0.5, np.nan, -0.0]}), npartitions=2)
    assert store(frame, datastore).identity == "4bed7e2068968112c46bf69da2e2a59dbb9c5b007da62b086b26f330bdd28de8"
    array = da.arange(6, chunks=4, dtype="int32").reshape(2, 3)
    assert store(array, datastore).identity == "c8b95803b9080d0a5d2294f62676b0079c8f7839062f33a984403660494abadb"
