import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from mlflow_pipes.content import FileState, MemoryFileMemo, blobs_of, describe, load, store, tree
from mlflow_pipes.content.memo import RACY_NS, remember
from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError, DatastoreError, UnstorableOutputError
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.stores.dry import DryDatastore
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore

BIG = bytes(range(256)) * 1000


@pytest.fixture(params=["local", "memory"])
def datastore(request, tmp_path):
    return LocalDatastore(tmp_path / "store") if request.param == "local" else MemoryDatastore()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "small.csv").write_text("a,b\n1,2\n")
    (root / "sub" / "big.bin").write_bytes(BIG)
    (root / "sub" / "deeper" / "run.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "deeper" / "run.sh").chmod(0o755)
    (root / "nom é \udcff".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")).write_bytes(b"")
    return root


def age(path):
    """Make a file older than the racy window, as far as its mtime tells."""
    os.utime(path, (1_600_000_000, 1_600_000_000))


def seen(root):
    """Everything below a folder: name -> bytes, or None for a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def test_a_file_stands_for_its_name_and_bytes(datastore, tmp_path):
    for content in (b"", b"few", BIG):
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        artifact = store(path, datastore)
        assert (artifact.codec, artifact.form, artifact.digest) == ("file", "table.csv", digest_bytes(content))
        back = load(artifact, datastore, checkout=tmp_path / "checkout")
        assert back.name == "table.csv"
        assert back.read_bytes() == content
        assert back.stat().st_mode & 0o222 == 0
        assert store(back, datastore) == artifact


def test_a_folder_comes_back_with_all_that_is_in_it(datastore, folder, tmp_path):
    artifact = store(folder, datastore)
    assert (artifact.codec, artifact.form) == ("tree", "data")
    back = load(artifact, datastore, Path, checkout=tmp_path / "checkout")
    assert back.name == "data"
    assert seen(back) == seen(folder)
    assert os.access(back / "sub/deeper/run.sh", os.X_OK)
    assert all(path.stat().st_mode & 0o222 == 0 for path in back.rglob("*") if path.is_file())
    assert store(back, datastore) == artifact
    assert describe(artifact) == "folder data, 4 files"


def test_only_names_contents_and_executability_are_in_a_folders_identity(datastore, folder):
    before = store(folder, datastore)
    age(folder / "small.csv")
    (folder / "small.csv").chmod(0o600)
    assert store(folder, datastore) == before
    for change in (
        lambda: (folder / "small.csv").chmod(0o700),
        (folder / "new").mkdir,
        lambda: (folder / "small.csv").rename(folder / "other.csv"),
        lambda: (folder / "sub/big.bin").write_bytes(BIG[::-1]),
    ):
        change()
        after = store(folder, datastore)
        assert after.identity != before.identity
        before = after


def test_a_path_may_be_wanted_as_text(datastore, folder):
    assert type(load(store(folder, datastore), datastore, str)) is str
    assert type(load(store(folder / "small.csv", datastore), datastore, str | None)) is str
    assert isinstance(load(store(folder, datastore), datastore, str | Path), Path)
    assert isinstance(load(store(folder, datastore), datastore, Any), Path)


def test_links_are_followed(datastore, folder, tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "shared.bin").write_bytes(b"shared")
    (folder / "a").symlink_to("small.csv")
    (folder / "b").symlink_to(tmp_path / "lake")
    back = load(store(folder, datastore), datastore, checkout=tmp_path / "checkout")
    assert (back / "a").read_text() == "a,b\n1,2\n"
    assert (back / "b" / "shared.bin").read_bytes() == b"shared"
    link = tmp_path / "latest.csv"
    link.symlink_to(folder / "small.csv")
    assert store(link, datastore).form == "latest.csv"


def test_relative_paths_and_dots_get_their_real_name(datastore, folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")
    assert store(Path(), datastore).form == "sub"
    assert store(Path(".."), datastore) == store(folder, datastore)


def test_what_is_no_file_or_folder_is_refused_by_name(datastore, folder):
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(UnstorableOutputError, match=r"data/broken is a symbolic link to nowhere, which does not exist"):
        store(folder, datastore)
    (folder / "broken").unlink()
    (folder / "loop").symlink_to(folder)
    with pytest.raises(UnstorableOutputError, match=r"data/loop is a symbolic link to a folder that it stands in"):
        store(folder, datastore)
    (folder / "loop").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnstorableOutputError, match=r"data/pipe is a named pipe"):
        store(folder, datastore)
    (folder / "pipe").unlink()
    with pytest.raises(UnstorableOutputError, match=r"output\['x'\]: /dev/null is a device"):
        store({"x": Path("/dev/null")}, datastore)
    with pytest.raises(UnstorableOutputError, match="there is no file or folder nope"):
        store(Path("nope"), datastore)


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(UnstorableOutputError, match="s is a socket"):
            store(Path("s"), MemoryDatastore())


def test_the_blobs_of_a_folder_are_its_manifests_and_files(datastore, folder):
    artifact = store([folder, 1], datastore)
    blobs = blobs_of(artifact, datastore)
    assert digest_bytes(BIG) in blobs
    assert len(blobs) == 7  # four files; manifests of empty, sub, deeper; the root's is inline
    assert datastore.has(blobs) == blobs
    deeper = next(digest for digest in blobs if b"run.sh" in bytes(datastore.read(digest)))
    datastore.delete([deeper])
    assert deeper in blobs_of(artifact, datastore)


def test_a_folder_whose_blob_is_gone_or_wrong_is_never_given(tmp_path, folder):
    datastore = LocalDatastore(tmp_path / "store")
    artifact = store(folder, datastore)
    blob = datastore.path(digest_bytes(BIG))
    blob.chmod(0o644)
    blob.write_bytes(BIG[::-1])
    with pytest.raises(BlobCorruptError):
        load(artifact, datastore, checkout=tmp_path / "checkout")
    datastore.delete([digest_bytes(BIG)])
    with pytest.raises(BlobMissingError):
        load(artifact, datastore, checkout=tmp_path / "checkout")
    assert not list((tmp_path / "checkout").iterdir())


@pytest.mark.parametrize("name", ["../evil", "..", ".", "", "a/b"])
def test_a_manifest_or_name_that_would_leave_its_folder_is_corrupt(datastore, name, tmp_path):
    entry = tree.Entry(name, "file", datastore.put([b"x"]))
    manifest = tree.encode_manifest([entry])
    for leaf in (
        Leaf("tree", digest_bytes(manifest), "data", manifest),
        Leaf("file", entry.digest, name),
        Leaf("tree", digest_bytes(b"[]"), "data", b"[]"),
    ):
        with pytest.raises(BlobCorruptError):
            load(leaf, datastore, checkout=tmp_path / "checkout")


# -- laid out for reading


def test_what_is_laid_out_is_used_again(datastore, folder, tmp_path):
    artifact = store(folder, datastore)
    first = load(artifact, datastore, checkout=tmp_path / "checkout")
    inode = (first / "small.csv").stat().st_ino
    assert load(artifact, datastore, checkout=tmp_path / "checkout") == first
    assert (first / "small.csv").stat().st_ino == inode
    assert len(list((tmp_path / "checkout").iterdir())) == 1


def test_large_files_are_links_to_the_blobs_and_small_ones_are_not(folder, tmp_path):
    datastore = LocalDatastore(tmp_path / "store")
    back = load(store(folder, datastore), datastore, checkout=tmp_path / "checkout")
    assert (back / "sub/big.bin").samefile(datastore.path(digest_bytes(BIG)))
    assert not (back / "small.csv").samefile(datastore.path(digest_bytes(b"a,b\n1,2\n")))


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda back: overwrite(back / "small.csv", b"x,y\n1,2\n"),
        lambda back: (back / "small.csv").unlink(),
        lambda back: (back / "extra").write_text("more"),
        lambda back: (back / "empty").rmdir(),
        lambda back: ((back / "sub/big.bin").unlink(), (back / "sub/big.bin").write_bytes(BIG)),
    ],
)
def test_what_a_step_did_to_the_layout_is_never_seen_by_the_next(datastore, folder, tmp_path, tamper):
    artifact = store(folder, datastore)
    expected = seen(folder)
    tamper(load(artifact, datastore, checkout=tmp_path / "checkout"))
    assert seen(load(artifact, datastore, checkout=tmp_path / "checkout")) == expected
    assert len(list((tmp_path / "checkout").iterdir())) == 1


def test_writing_through_a_link_makes_the_blob_corrupt_and_not_the_answer_wrong(folder, tmp_path):
    datastore = LocalDatastore(tmp_path / "store")
    artifact = store(folder, datastore)
    overwrite(load(artifact, datastore, checkout=tmp_path / "checkout") / "sub/big.bin", BIG[::-1])
    with pytest.raises(BlobCorruptError):
        load(artifact, datastore, checkout=tmp_path / "checkout")
    datastore.delete([digest_bytes(BIG)])  # as the engine does, and runs the producer again
    store(folder, datastore)
    assert seen(load(artifact, datastore, checkout=tmp_path / "checkout")) == seen(folder)


def test_readers_may_race_for_a_layout(datastore, folder, tmp_path):
    artifact = store(folder, datastore)
    found, failures = [], []

    def read():
        try:
            found.append(seen(load(artifact, datastore, checkout=tmp_path / "checkout")))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert found == [seen(folder)] * 8
    assert len(list((tmp_path / "checkout").iterdir())) == 1


def test_a_checkout_that_cannot_be_written_is_an_error_that_names_it(datastore, folder, tmp_path):
    (tmp_path / "checkout").write_text("a file")
    with pytest.raises(DatastoreError, match=r"cannot lay out data below .*checkout"):
        load(store(folder, datastore), datastore, checkout=tmp_path / "checkout")


# -- files hashed before


class CountingDatastore(MemoryDatastore):
    puts = 0

    def put(self, pieces):
        self.puts += 1
        return super().put(pieces)


def old_file(path, content=BIG):
    path.write_bytes(content)
    age(path)
    return path


class Trusting(MemoryFileMemo):
    """Takes every state as long settled: a test cannot wait for the clock of ctime."""

    def learn(self, path, digest):
        super().put(FileState.of(path.stat()), digest)


def test_a_remembered_file_that_is_stored_is_not_read(tmp_path):
    datastore, memo = CountingDatastore(), Trusting()
    path = old_file(tmp_path / "f")
    artifact = store(path, datastore)
    memo.learn(path, artifact.digest)
    assert store(path, datastore, memo=memo) == artifact
    assert datastore.puts == 1
    datastore.delete([artifact.digest])
    assert store(path, datastore, memo=memo) == artifact  # read again: its blob is gone
    assert datastore.puts == 2


def test_a_plan_with_a_remembered_file_reads_nothing(tmp_path):
    inner, memo = MemoryDatastore(), Trusting()
    path = old_file(tmp_path / "f")
    artifact = store(path, inner)
    memo.learn(path, artifact.digest)
    path.chmod(0o644)
    assert store(path, DryDatastore(inner), memo=memo) == artifact
    assert store(path, DryDatastore(MemoryDatastore())) == artifact


def test_a_change_that_keeps_size_and_mtime_is_seen(tmp_path):
    datastore, memo = MemoryDatastore(), Trusting()
    path = old_file(tmp_path / "f")
    memo.learn(path, store(path, datastore).digest)
    path.write_bytes(BIG[::-1])
    age(path)
    assert store(path, datastore, memo=memo).digest == digest_bytes(BIG[::-1])


def test_a_file_changed_just_now_is_not_remembered():
    memo, digest = MemoryFileMemo(), digest_bytes(b"")
    for mtime, ctime, settled in [(0, 0, True), (10, 0, False), (0, 10, False)]:
        state = FileState(1, 2, 3, mtime, ctime)
        remember(memo, state, digest, now_ns=RACY_NS + 5)
        assert (memo.get(state) == digest) is settled


def test_storing_remembers_settled_files(tmp_path):
    memo = MemoryFileMemo()
    path = old_file(tmp_path / "f")  # its ctime is now: not settled
    store(path, MemoryDatastore(), memo=memo)
    assert memo.get(FileState.of(path.stat())) is None


class ChangingDatastore(MemoryDatastore):
    """Something writes to the file while the first few puts read it."""

    def __init__(self, path, times):
        super().__init__()
        self.path, self.times = path, times

    def put(self, pieces):
        digest = super().put(pieces)
        if self.times:
            self.times -= 1
            with self.path.open("ab") as file:
                file.write(b"more")
        return digest


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path):
    path = old_file(tmp_path / "f")
    artifact = store(path, ChangingDatastore(path, 2))
    assert artifact.digest == digest_bytes(path.read_bytes())
    with pytest.raises(UnstorableOutputError, match=r"f changes while it is read; stop what writes to it"):
        store(path, ChangingDatastore(path, 100))
