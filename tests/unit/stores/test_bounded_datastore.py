"""A datastore of so many bytes: what goes when, who is counted, and when all of it goes."""

import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import BlobMissingError, DatastoreError
from mlflow_pipes.stores.bound import Held, NoRoomError, least_recently_used, occupied_bytes
from mlflow_pipes.stores.bounded import BoundedDatastore
from mlflow_pipes.testing.datastore_contract import DatastoreContract

KIB = 1024


class TestBoundedDatastore(DatastoreContract):
    @pytest.fixture
    def datastore(self, tmp_path):
        return BoundedDatastore(tmp_path / "near", 64 * KIB * KIB)


def blob(number, size):
    return (b"%d." % number * size)[:size]


def occupied(store):
    return sum(occupied_bytes(digest.size_bytes) for digest, _ in store.blobs())


def counted(store):
    return int((store.folder / "occupied").read_text())


SIZES = st.lists(st.integers(0, 60 * KIB), min_size=1, max_size=8)
USES = st.lists(st.tuples(st.sampled_from(("put", "stream", "read")), st.integers(0, 7)), max_size=30)


@given(sizes=SIZES, uses=USES)
def test_blobs_never_occupy_more_than_the_bound_and_those_used_last_stay(tmp_path_factory, sizes, uses):
    store = BoundedDatastore(tmp_path_factory.mktemp("near"), 100 * KIB)
    by_use = []  # latest first
    for what, chosen in uses:
        number = chosen % len(sizes)
        content = blob(number, sizes[number])
        try:
            if what == "read":
                assert store.read(digest_bytes(content)) == content
            else:
                store.put([content] if what == "put" else iter([content[:10], content[10:]]))
        except NoRoomError:
            assert len(content) > 50 * KIB
            continue
        except BlobMissingError:
            assert what == "read"
            continue
        by_use = [content, *(other for other in by_use if other != content)]
        assert occupied(store) <= counted(store) <= store.most_bytes
        there = [bool(store.has([digest_bytes(content)])) for content in by_use]
        assert there == sorted(there, reverse=True), "whatever was used later than what is there, is there"
        assert there[0]


@given(uses=st.lists(st.integers(0, 5)), excess=st.integers(-5, 100))
def test_no_more_goes_than_must(uses, excess):
    held = [Held(use, 7, str(number)) for number, use in enumerate(uses)]
    doomed = least_recently_used(held, excess)
    kept = [one for one in held if one not in doomed]
    assert not (doomed and kept) or max(doomed) < min(kept)
    assert 7 * len(doomed) >= min(excess, 7 * len(held))
    assert not doomed or 7 * (len(doomed) - 1) < excess


def test_who_has_a_blob_mapped_or_open_keeps_it_when_it_goes(tmp_path):
    store = BoundedDatastore(tmp_path, 400 * KIB)
    content = blob(1, 190 * KIB)
    view = store.read(store.put([content]))
    file = store.open(digest_bytes(content))
    for number in range(2, 6):
        store.put([blob(number, 150 * KIB)])
    assert not store.has([digest_bytes(content)])
    assert view == content
    with file:
        assert file.read() == content


def test_what_is_being_written_counts_and_what_a_killed_process_left_does_not(tmp_path):
    store = BoundedDatastore(tmp_path, 100 * KIB)
    with store.writing(48 * KIB) as first, store.writing(48 * KIB) as second:
        with pytest.raises(NoRoomError, match="others are being written"):
            store.writing(8 * KIB)
        first.write(bytes(48 * KIB))
        second.write(b"short")
        second.keep(digest_bytes(b"short"))
    assert occupied(store) == counted(store) == 4 * KIB
    (store.folder / "incoming" / "1-0-left").write_bytes(bytes(99 * KIB))
    (store.folder / "occupied").write_text("")  # what such a process may leave, too
    store.put([bytes(40 * KIB)])
    assert list((store.folder / "incoming").iterdir()) == []
    assert occupied(store) == counted(store) == 44 * KIB


def test_a_blob_of_more_than_half_of_it_drives_out_nothing(tmp_path):
    store = BoundedDatastore(tmp_path, 100 * KIB)
    small = store.put([blob(1, 40 * KIB)])
    for pieces in ([bytes(51 * KIB)], iter([bytes(KIB)] * 100)):
        with pytest.raises(NoRoomError, match="more than half"):
            store.put(pieces)
    assert store.has([small])
    assert list((store.folder / "incoming").iterdir()) == []


def test_where_less_is_free_than_the_bound_says_what_could_go_goes_and_that_it_is_full_is_told(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    store = BoundedDatastore(tmp_path, 10 * free)
    digest = store.put([b"x"])
    with pytest.raises(DatastoreError, match="bytes are free") as caught:
        store.writing(2 * free)
    assert not isinstance(caught.value, NoRoomError), "which is no news"
    assert not store.has([digest])


def test_a_folder_that_others_may_change_is_not_used(tmp_path):
    (tmp_path / "near").mkdir(mode=0o700)
    store = BoundedDatastore(tmp_path / "near", 100 * KIB)
    digest = store.put([b"x"])
    (tmp_path / "near").chmod(0o777)
    for use in (lambda: store.put([b"y"]), lambda: store.read(digest), lambda: store.open(digest), store.stay):
        with pytest.raises(DatastoreError, match="others may write there"):
            use()


def test_it_is_made_for_its_user_alone(tmp_path):
    store = BoundedDatastore(tmp_path / "new" / "near", 100 * KIB)
    store.put([b"x"])
    assert (tmp_path / "new" / "near").stat().st_mode & 0o777 == 0o700


def test_it_survives_pickling(tmp_path):
    store = pickle.loads(pickle.dumps(BoundedDatastore(tmp_path, 100 * KIB)))
    assert store.folder == tmp_path
    assert store.most_bytes == 100 * KIB


RACE = """
import random, sys
from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import BlobMissingError
from mlflow_pipes.stores.bound import NoRoomError
from mlflow_pipes.stores.bounded import BoundedDatastore

store = BoundedDatastore(sys.argv[1], int(sys.argv[2]))
chance = random.Random(sys.argv[3])
for _ in range(150):
    content = b"%d." % chance.randrange(12) * chance.choice((10, 20_000))
    try:
        if chance.random() < 0.5:
            store.put([content] if chance.random() < 0.5 else iter([content]))
        else:
            assert store.read(digest_bytes(content)) == content
    except (BlobMissingError, NoRoomError):
        pass
    with store._bound():
        occupied = sum(-(-digest.size_bytes // 4096) * 4096 for digest, _ in store.blobs())
    assert occupied <= store.most_bytes, occupied
"""


def test_processes_that_race_keep_to_the_bound_and_see_whole_blobs(tmp_path):
    command = [sys.executable, "-c", RACE, str(tmp_path / "near"), str(200 * KIB)]
    racers = [subprocess.Popen([*command, str(seed)]) for seed in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    store = BoundedDatastore(tmp_path / "near", 200 * KIB)
    store.put([b"one more"])
    assert list((store.folder / "incoming").iterdir()) == []
    assert occupied(store) <= counted(store) <= store.most_bytes


STAY = """
import sys
from mlflow_pipes.stores.bounded import BoundedDatastore

store = BoundedDatastore(sys.argv[1], 1_000_000)
store.stay()
store.stay()
store.put([sys.argv[2].encode()])
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def users(tmp_path):
    folder = tmp_path / "place" / "near"
    started = []

    def start(word):
        process = subprocess.Popen(
            [sys.executable, "-c", STAY, str(folder), word], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == b"here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def end(process):
    process.stdin.close()
    assert process.wait(20) == 0


def test_the_last_process_that_stays_removes_all_and_nothing_else(users, tmp_path):
    one, other = users("one"), users("other")
    (tmp_path / "place" / "mine.txt").write_text("the user's own")
    end(one)
    store = BoundedDatastore(tmp_path / "place" / "near", 1_000_000)
    assert store.has([digest_bytes(b"one"), digest_bytes(b"other")]) == {digest_bytes(b"one"), digest_bytes(b"other")}
    end(other)
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["mine.txt"]


def test_what_a_killed_process_left_goes_with_the_next_one(users, tmp_path):
    killed = users("killed")
    killed.kill()
    killed.wait()
    assert (tmp_path / "place" / "near").is_dir()
    end(users("next"))
    assert not (tmp_path / "place" / "near").exists()


def test_threads_fetch_a_blob_one_after_the_other(tmp_path):
    store, digest = BoundedDatastore(tmp_path, 100 * KIB), digest_bytes(b"x")
    order = []

    def fetch():
        with store.fetching(digest):
            order.append("begun")
            order.append("ended")

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["begun", "ended"] * 4
    assert Path(tmp_path, "fetching").is_dir()
