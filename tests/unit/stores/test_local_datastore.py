import errno
import os
import pickle
import time
from pathlib import Path

import pytest

from mlflow_pipes.digests import Digest, digest_bytes
from mlflow_pipes.errors import BlobCorruptError, DatastoreError
from mlflow_pipes.ports import LocalFiles, Sweepable
from mlflow_pipes.stores import local
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.testing.datastore_contract import DatastoreContract

BIG = b"0123456789" * 20_000


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "store")


class TestLocalDatastore(DatastoreContract):
    @pytest.fixture
    def datastore(self, tmp_path):
        return LocalDatastore(tmp_path / "store")


def incoming(store):
    return list((store.folder / "incoming").iterdir())


def blob_file(store, digest):
    return store.folder / "blobs" / digest.hash[:2] / digest.hash[2:]


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def test_it_implements_the_further_ports(datastore):
    assert isinstance(datastore, LocalFiles)
    assert isinstance(datastore, Sweepable)


def test_it_survives_pickling(datastore):
    digest = datastore.put([b"x"])
    copy = pickle.loads(pickle.dumps(datastore))
    assert copy == datastore
    assert copy.read(digest) == b"x"


def test_blobs_lie_on_shelves_of_two_hex_digits(datastore):
    for content in (b"x", BIG):
        assert blob_file(datastore, datastore.put([content])).read_bytes() == content
    assert incoming(datastore) == []


def test_writing_what_is_there_writes_nothing(datastore):
    digest = datastore.put([b"x"])
    before = blob_file(datastore, digest).stat()
    datastore.put([b"x"])
    after = blob_file(datastore, digest).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_putting_an_old_blob_again_makes_it_young_so_that_gc_spares_it(datastore):
    for content in (b"x", BIG):
        digest = datastore.put([content])
        os.utime(blob_file(datastore, digest), (1_000_000_000, 1_000_000_000))
        datastore.put([content])
        assert time.time() - blob_file(datastore, digest).stat().st_mtime < 60


@pytest.mark.parametrize("content", [b"small", BIG])
def test_a_changed_byte_is_corruption_also_after_it_was_verified(datastore, content):
    digest = datastore.put([content])
    assert datastore.read(digest) == content
    overwrite(blob_file(datastore, digest), b"?" + content[1:])
    with pytest.raises(BlobCorruptError, match=r"another hash"):
        datastore.read(digest)
    with pytest.raises(BlobCorruptError):
        datastore.open(digest)
    with pytest.raises(BlobCorruptError):
        datastore.path(digest)


@pytest.mark.parametrize("content", [b"small", BIG])
def test_a_short_blob_is_corrupt_and_not_counted_as_there(datastore, content):
    digest = datastore.put([content])
    overwrite(blob_file(datastore, digest), content[:-1])
    assert datastore.has([digest]) == set()
    with pytest.raises(BlobCorruptError, match=f"it has {len(content) - 1} bytes"):
        datastore.read(digest)


@pytest.mark.parametrize("content", [b"small", BIG])
def test_a_short_blob_is_healed_by_writing_it_again(datastore, content):
    digest = datastore.put([content])
    overwrite(blob_file(datastore, digest), content[:-1])
    datastore.put([content])
    assert datastore.read(digest) == content


def test_a_folder_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "store").write_text("I am a file")
    store = LocalDatastore(tmp_path / "store")
    with pytest.raises(DatastoreError, match=r"cannot write to datastore .*store: .*configure another"):
        store.put([b"x"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error_with_a_remedy(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(DatastoreError, match="write permission"):
        LocalDatastore(tmp_path / "store").put([b"x"])
    tmp_path.chmod(0o755)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_with_a_remedy_and_leaves_nothing(tmp_path):
    class Full(LocalDatastore):
        __slots__ = ()

        def _create(self):
            path, descriptor = super()._create()
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, descriptor)
            os.close(full)
            return path, descriptor

    store = Full(tmp_path)
    for pieces in ((b"small",), iter([b"small"]), iter([BIG] * 10)):
        with pytest.raises(DatastoreError, match=r"No space left on device.*Free space") as caught:
            store.put(pieces)
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert incoming(store) == []
    assert list(store.blobs()) == []


def test_what_killed_writers_left_is_removed_after_a_day(datastore):
    datastore.put([b"x"])
    old, young = datastore.folder / "incoming/1-0-old", datastore.folder / "incoming/1-1-young"
    old.write_bytes(b"")
    young.write_bytes(b"")
    day_ago = time.time() - local.ABANDONED_S - 60
    os.utime(old, (day_ago, day_ago))
    LocalDatastore(datastore.folder).put([b"y"])
    assert incoming(datastore) == [young]


def test_nothing_is_made_by_reading_an_absent_store(datastore):
    assert list(datastore.blobs()) == []
    assert datastore.has([digest_bytes(b"")]) == set()
    datastore.delete([Digest("0" * 64, 1)])
    assert not datastore.folder.exists()
