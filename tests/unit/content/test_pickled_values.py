import io
import sqlite3
import threading
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlflow_pipes.content import describe, load, store
from mlflow_pipes.errors import UnstorableOutputError
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore


class Holder:
    def __init__(self, **parts):
        self.__dict__.update(parts)


class Stubborn:
    def __reduce__(self):
        raise ZeroDivisionError("no way")


def numbers():
    yield 1


@pytest.fixture(params=["memory", "local"])
def datastore(request, tmp_path):
    return MemoryDatastore() if request.param == "memory" else LocalDatastore(tmp_path)


def test_any_object_comes_back_with_its_buffers_writable(datastore):
    value = Holder(a=np.arange(100_000.0), b=np.ones((3, 4), order="F"), text="x", more=[np.arange(5)])
    artifact = store(value, datastore)
    assert artifact.codec == "pickle"
    assert describe(artifact).startswith("Holder, 8")
    back = load(artifact, datastore)
    for name in ("a", "b"):
        np.testing.assert_array_equal(getattr(back, name), getattr(value, name))
    assert back.b.flags.f_contiguous
    back.a += 1
    back.more[0][0] = 9
    assert load(artifact, datastore).a[0] == 0
    assert store(load(artifact, datastore), datastore) == store(load(artifact, datastore), datastore)


def test_functions_and_lambdas_are_kept(datastore):
    twice = load(store(lambda x: 2 * x, datastore), datastore)
    assert twice(4) == 8
    assert load(store(numbers, datastore), datastore) is numbers


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (numbers, r"a generator can be read once only and cannot be stored; return list\(...\) of it"),
        (lambda: map(str, [1]), "a map can be read once only"),
        (lambda: zip([1], [2], strict=True), "a zip can be read once only"),
        (threading.Lock, r"a _thread.lock cannot be stored: .*; make the lock in the step that uses it"),
        (lambda: Holder(lock=threading.Lock()), r"Holder cannot be stored: cannot pickle '_thread.lock' object; "),
        (Stubborn, "Stubborn cannot be stored: no way; return plain data"),
    ],
)
def test_what_cannot_be_stored_is_an_error_with_type_and_remedy(make, words):
    with pytest.raises(UnstorableOutputError, match=words):
        store(make(), MemoryDatastore())


def test_open_files_and_connections_are_refused_with_a_remedy(tmp_path):
    (tmp_path / "f").write_text("x")
    for mode in ("r", "rb", "a"):
        with (
            (tmp_path / "f").open(mode) as file,
            pytest.raises(UnstorableOutputError, match="close the file and return its"),
        ):
            store({"a": file}, MemoryDatastore())
    connection = sqlite3.connect(":memory:")
    with pytest.raises(UnstorableOutputError, match="open the connection in the step that uses it"):
        store(connection, MemoryDatastore())
    connection.close()
    assert load(store(io.BytesIO(b"x"), MemoryDatastore()), MemoryDatastore()).getvalue() == b"x"


def test_a_pickled_table_is_still_given_as_the_class_wanted():
    store_ = MemoryDatastore()
    frame = pd.DataFrame({"a": pd.Series([[1], [2, 3]], dtype=object)})
    artifact = store(frame, store_)
    assert artifact.codec == "pickle"
    pd.testing.assert_frame_equal(load(artifact, store_, pd.DataFrame), frame)
    assert load(artifact, store_, pa.Table).column_names == ["a"]
    assert type(load(artifact, store_, Any)) is pd.DataFrame
