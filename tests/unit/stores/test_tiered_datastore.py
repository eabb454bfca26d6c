"""A near store before a far one: what is read where, and that nothing wrong with the near one is ever felt."""

import logging
import os
import pickle
import resource
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError
from mlflow_pipes.ports import LocalFiles, Resident
from mlflow_pipes.stores import tiered as tiered_module
from mlflow_pipes.stores.bounded import BoundedDatastore
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.stores.tiered import TieredDatastore, TierThere, tiered
from mlflow_pipes.testing.datastore_contract import DatastoreContract

KIB = 1024
BIG = b"0123456789" * 30_000


class TestTieredDatastore(DatastoreContract):
    @pytest.fixture
    def datastore(self, tmp_path):
        return TieredDatastore(LocalDatastore(tmp_path / "far"), BoundedDatastore(tmp_path / "near", 64 * KIB * KIB))


class TestTierOfAFarStoreThatIsNoFolder(DatastoreContract):
    @pytest.fixture
    def datastore(self, tmp_path):
        return TieredDatastore(MemoryDatastore(), BoundedDatastore(tmp_path / "near", 64 * KIB * KIB))


class TestTierThatHasRoomForLittle(DatastoreContract):
    @pytest.fixture
    def datastore(self, tmp_path):
        return TieredDatastore(LocalDatastore(tmp_path / "far"), BoundedDatastore(tmp_path / "near", 100 * KIB))


class TestTierThatCannotBe(DatastoreContract):
    @pytest.fixture
    def datastore(self, tmp_path):
        (tmp_path / "file").write_text("no folder can be below a file")
        return TieredDatastore(LocalDatastore(tmp_path / "far"), BoundedDatastore(tmp_path / "file/near", 10**9))


class CountingDatastore(MemoryDatastore):
    """Counts how often blobs are read."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def read(self, digest):
        self.reads += 1
        return super().read(digest)


@pytest.fixture
def far():
    return CountingDatastore()


@pytest.fixture
def near(tmp_path):
    return BoundedDatastore(tmp_path / "near", 64 * KIB * KIB)


@pytest.fixture
def store(far, near):
    return TieredDatastore(far, near)


@pytest.fixture
def told(caplog):
    tiered_module._told.clear()
    with caplog.at_level(logging.INFO, logger="mlflow_pipes.stores.tiered"):
        yield lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("pieces", [(BIG,), [b"small"]])
def test_what_was_written_here_is_read_here(store, far, pieces):
    digest = store.put(pieces)
    assert far.has([digest])
    assert store.read(digest) == b"".join(pieces)
    with store.open(digest) as file:
        assert file.read() == b"".join(pieces)
    assert far.reads == 0


def test_what_was_written_elsewhere_comes_once(store, far):
    digest = far.put([BIG])
    for _ in range(3):
        assert store.read(digest) == BIG
    with store.open(digest) as file:
        assert file.read() == BIG
    assert far.reads == 1


def test_of_many_who_want_a_blob_at_once_one_fetches_it(store, far):
    digest = far.put([BIG])
    threads = [threading.Thread(target=store.read, args=(digest,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert far.reads == 1


def test_the_far_store_says_what_is_there(store, far, near):
    digest = store.put([BIG])
    far.delete([digest])
    assert store.has([digest]) == set()
    assert store.read(digest) == BIG, "who has its digest may still have its bytes"
    assert near.has([digest])


def test_a_folder_is_read_over_in_one_pass(tmp_path, near):
    class Verifying(LocalDatastore):
        """Tells of reads that verify: each of them reads all bytes before."""

        __slots__ = ()

        def open(self, digest):
            raise AssertionError("read twice")

        def read(self, digest):
            raise AssertionError("read twice")

    digest = LocalDatastore(tmp_path / "far").put(iter([BIG]))
    assert TieredDatastore(Verifying(tmp_path / "far"), near).read(digest) == BIG


def test_a_blob_that_is_spoilt_here_comes_again(store, far, near, told):
    digest = store.put([BIG])
    file = near.folder / "blobs" / digest.hash[:2] / digest.hash[2:]
    file.chmod(0o644)
    file.write_bytes(BIG[:-1] + b"!")
    os.utime(file, (time.time() - 100,) * 2)
    assert store.read(digest) == BIG
    assert far.reads == 1
    assert store.read(digest) == BIG
    assert far.reads == 1
    assert len(told()) == 1
    assert "corrupt" in told()[0]


def test_a_blob_that_is_spoilt_or_gone_there_is_an_error_and_not_kept(tmp_path, near, told):
    far = LocalDatastore(tmp_path / "far")
    store, digest = TieredDatastore(far, near), far.put([BIG])
    file = far.path(digest)
    file.chmod(0o644)
    file.write_bytes(BIG[:-1] + b"!")
    with pytest.raises(BlobCorruptError, match="far is corrupt"):
        store.read(digest)
    file.unlink()
    with pytest.raises(BlobMissingError, match=r"not in datastore .*far"):
        store.read(digest)
    assert list(near.blobs()) == []
    assert told() == []


def test_a_tier_may_vanish_at_any_moment(store, far, near, told):
    digest = store.put([BIG])
    view = store.read(digest)
    with store.open(digest) as file:
        shutil.rmtree(near.folder)
        assert file.read() == view == BIG
    assert store.read(digest) == BIG
    assert far.reads == 1
    shutil.rmtree(near.folder)
    assert store.put([b"more"]) == digest_bytes(b"more")
    assert told() == []


def test_a_tier_that_cannot_be_written_is_as_if_it_were_not_there_and_that_is_told_once(store, far, near, told):
    near.folder.mkdir(mode=0o777)
    near.folder.chmod(0o777)
    for number in range(3):
        digest = store.put([b"%d" % number])
        assert store.read(digest) == b"%d" % number
    assert far.reads == 3
    (message,) = told()
    assert f"the local tier {near.folder} cannot be used" in message


@contextmanager
def small_disk():
    """No file of this process may be larger than 100 KiB: what a full disk says, only sooner.

    No fixture, since pytest may write a longer report before it ends one.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * KIB, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_in_the_middle_of_a_blob_is_not_felt(store, far, near, told):
    in_pieces = [BIG[start : start + 999] for start in range(0, len(BIG), 999)]
    with small_disk():
        for pieces in ([BIG], iter([BIG[:1000], BIG[1000:]]), iter(in_pieces)):
            digest = store.put(pieces)
            assert store.read(digest) == far.read(digest)
    assert list(near.blobs()) == list((near.folder / "incoming").iterdir()) == []
    assert len(told()) == 1


def test_files_of_a_tier_are_nobodys_to_link_to(store):
    assert not isinstance(store, LocalFiles), "they may go while a step reads them"
    assert isinstance(store, Resident)


# --- where a tier is -------------------------------------------------------------------------------------------------


def test_a_tier_is_in_a_folder_of_this_users_and_of_the_machine_that_unpickles_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE_OF_TIER", str(tmp_path / "a"))
    sent = pickle.dumps(TierThere(SimpleNamespace(), "$PLACE_OF_TIER/scratch", 10**6))
    first = pickle.loads(sent)
    assert first.near == BoundedDatastore(tmp_path / "a" / "scratch" / f"mlflow_pipes-{os.geteuid()}", 10**6)
    monkeypatch.setenv("PLACE_OF_TIER", str(tmp_path / "b"))
    assert pickle.loads(pickle.dumps(first)).near.folder.parent == tmp_path / "b" / "scratch"


def test_a_tier_without_a_place_on_this_machine_is_none(told):
    far = SimpleNamespace()
    assert tiered(far, "$NO_SUCH_VARIABLE/tier", 10**6) is far
    assert "a variable in it is not set" in told()[0]


def test_a_tier_on_the_file_system_of_the_datastore_is_none(tmp_path, told):
    far = LocalDatastore(tmp_path / "not" / "made" / "yet")
    assert tiered(far, str(tmp_path / "tier"), 10**6) is far
    assert told() == []
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    assert isinstance(tiered(far, str(elsewhere), 10**6), TieredDatastore)
