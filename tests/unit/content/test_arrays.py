import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlflow_pipes.content import describe, load, store
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore

STORE = MemoryDatastore()
dtypes = (
    hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.boolean_dtypes() | hnp.complex_number_dtypes() | hnp.datetime64_dtypes()
    | hnp.timedelta64_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes()
)  # fmt: skip
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))


@settings(max_examples=60)
@given(arrays)
def test_an_array_comes_back_with_dtype_and_shape(array):
    artifact = store(array, STORE)
    assert artifact.codec == "array"
    back = load(artifact, STORE)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert store(back, STORE) == artifact


@settings(max_examples=30)
@given(arrays, st.data())
def test_how_an_array_lies_in_memory_changes_no_identity(array, data):
    expected = store(array, STORE)
    assert store(np.asfortranarray(array), STORE) == expected or array.ndim == 0
    assert store(array.astype(array.dtype.newbyteorder(">")), STORE) == expected
    if array.ndim:
        wide = np.concatenate([array, array])
        assert store(np.repeat(array, 2, axis=0)[::2], STORE) == expected
        assert store(wide[len(array) :], STORE) == expected


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.5),
        np.float64("nan"),
        np.int8(3),
        np.bool_(True),
        np.datetime64("2020-01-01"),
        np.str_("a"),
        np.complex64(1j),
    ],
)
def test_a_numpy_scalar_keeps_its_type(value):
    back = load(store(value, STORE), STORE)
    assert type(back) is type(value)
    assert back.tobytes() == value.tobytes()
    assert store(value, STORE).identity != store(value.item(), STORE).identity


def test_structured_arrays_views_and_memory_maps_come_back(tmp_path):
    points = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8", (1,))])
    np.testing.assert_array_equal(load(store(points, STORE), STORE), points)
    mapped = np.memmap(tmp_path / "m", np.int16, "w+", shape=(5, 7))
    mapped[:] = 3
    assert store(mapped, STORE) == store(np.full((5, 7), 3, np.int16), STORE)
    big = np.arange(3_000_000).reshape(1500, 2000)
    assert store(big.T, STORE) == store(np.ascontiguousarray(big.T), STORE)


@pytest.mark.parametrize(
    "value", [np.array([1, "a"], object), np.ma.masked_array([1, 2], [0, 1]), np.rec.array([(1, 2)], names="a,b")]
)
def test_arrays_of_objects_and_subclasses_are_pickled(value):
    artifact = store(value, STORE)
    assert artifact.codec == "pickle"
    back = load(artifact, STORE)
    assert type(back) is type(value)
    assert back.tolist() == value.tolist()


def test_a_loaded_array_may_be_changed_and_the_blob_stays(tmp_path):
    datastore = LocalDatastore(tmp_path)
    for size in (3, 100_000):
        artifact = store(np.zeros(size), datastore)
        for _ in range(2):
            array = load(artifact, datastore)
            array += 1
            assert array.sum() == size


def test_people_are_told_shape_and_type():
    assert describe(store(np.zeros((1000, 20)), STORE)) == "array 1,000 × 20 float64"  # noqa: RUF001
    assert describe(store(np.float32(1), STORE)) == "scalar float32"
    assert describe(store(np.array(1), STORE)) == "array int64"
