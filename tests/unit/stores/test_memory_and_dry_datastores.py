import pickle

import pytest

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import BlobMissingError
from mlflow_pipes.stores.dry import DryDatastore
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.testing.datastore_contract import DatastoreContract


class TestMemoryDatastore(DatastoreContract):
    @pytest.fixture
    def datastore(self):
        return MemoryDatastore()


def test_a_memory_datastore_says_that_it_cannot_travel():
    with pytest.raises(TypeError, match="use a LocalDatastore"):
        pickle.dumps(MemoryDatastore())


def test_a_dry_datastore_hashes_and_keeps_nothing():
    inner = MemoryDatastore()
    dry = DryDatastore(inner)
    digest = dry.put(iter([b"ab", memoryview(b"c")]))
    assert digest == digest_bytes(b"abc")
    assert list(inner.blobs()) == []
    assert dry.has([digest]) == set()
    with pytest.raises(BlobMissingError):
        dry.read(digest)


def test_a_dry_datastore_reads_what_the_inner_one_has_and_deletes_nothing(tmp_path):
    inner = LocalDatastore(tmp_path)
    digest = inner.put([b"abc"])
    dry = pickle.loads(pickle.dumps(DryDatastore(inner)))
    dry.delete([digest])
    assert dry.has([digest]) == {digest}
    assert dry.read(digest) == b"abc"
    with dry.open(digest) as file:
        assert file.read() == b"abc"
