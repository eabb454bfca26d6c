"""What every datastore must do: inherit :class:`DatastoreContract` in a test module and give it a store.

::

    class TestMyDatastore(DatastoreContract):
        @pytest.fixture
        def datastore(self, tmp_path):
            return MyDatastore(tmp_path)
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlflow_pipes.digests import Digest, digest_bytes
from mlflow_pipes.errors import BlobMissingError
from mlflow_pipes.ports import Datastore, LocalFiles, Sweepable

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (0, 1, 200, 65_536, 65_537, 3_000_001)


def content_of(size: int) -> bytes:
    """Return bytes of a size that differ from those of any other size."""
    return (b"%d." % size * (size // 2 + 1))[:size]


class DatastoreContract:
    """The promises of :class:`mlflow_pipes.ports.Datastore`, as tests."""

    @pytest.fixture
    def datastore(self) -> Datastore:
        """Return an empty datastore; adapters override this."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", SIZES)
    def test_what_is_put_is_read_back(self, datastore: Datastore, size: int) -> None:
        content = content_of(size)
        digest = datastore.put([content])
        assert digest == digest_bytes(content)
        assert bytes(datastore.read(digest)) == content
        with datastore.open(digest) as file:
            assert file.read() == content

    @pytest.mark.parametrize("size", SIZES)
    def test_how_a_stream_is_cut_changes_nothing(self, datastore: Datastore, size: int) -> None:
        content = content_of(size)
        step = max(1, size // 7)
        pieces = (memoryview(content)[start : start + step] for start in range(0, size, step))
        assert datastore.put(pieces) == datastore.put((content,)) == digest_bytes(content)

    def test_typed_views_are_taken_as_their_bytes(self, datastore: Datastore) -> None:
        view: Any = memoryview(bytes(80_000)).cast("d")
        assert datastore.put([view]) == digest_bytes(bytes(80_000))
        assert datastore.put([view[:10]]) == digest_bytes(bytes(80))

    def test_an_empty_stream_is_a_blob_without_bytes(self, datastore: Datastore) -> None:
        assert bytes(datastore.read(datastore.put(()))) == b""

    def test_has_tells_which_are_there(self, datastore: Datastore) -> None:
        there, absent = datastore.put([b"there"]), digest_bytes(b"absent")
        assert datastore.has([there, absent]) == {there}
        assert datastore.has([]) == set()

    def test_has_is_false_for_another_size(self, datastore: Datastore) -> None:
        there = datastore.put([b"there"])
        assert datastore.has([Digest(there.hash, 4)]) == set()

    def test_a_blob_that_is_not_there_is_an_error(self, datastore: Datastore) -> None:
        absent = digest_bytes(b"absent")
        with pytest.raises(BlobMissingError, match=absent.hash):
            datastore.read(absent)
        with pytest.raises(BlobMissingError), datastore.open(absent):
            pass

    def test_deleting_removes_and_ignores_what_is_absent(self, datastore: Datastore) -> None:
        digest, other = datastore.put([b"doomed"]), datastore.put([b"spared"])
        datastore.delete([digest, digest_bytes(b"absent")])
        datastore.delete([digest])
        assert datastore.has([digest, other]) == {other}
        with pytest.raises(BlobMissingError):
            datastore.read(digest)

    def test_a_deleted_blob_can_be_put_again(self, datastore: Datastore) -> None:
        digest = datastore.put([b"again"])
        datastore.delete([digest])
        assert datastore.put([b"again"]) == digest
        assert bytes(datastore.read(digest)) == b"again"

    def test_what_was_read_outlives_its_deletion(self, datastore: Datastore) -> None:
        content = content_of(3_000_001)
        digest = datastore.put([content])
        view = datastore.read(digest)
        datastore.delete([digest])
        assert view == content

    def test_writing_to_a_view_never_reaches_the_blob(self, datastore: Datastore) -> None:
        for size in (200, 3_000_001):
            digest = datastore.put([content_of(size)])
            view = datastore.read(digest)
            if not view.readonly:
                view[:3] = b"!!!"
            assert datastore.read(digest) == content_of(size)

    def test_a_stream_that_fails_leaves_nothing(self, datastore: Datastore) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"x" * 100_000
            raise RuntimeError("the source broke")

        with pytest.raises(RuntimeError, match="the source broke"):
            datastore.put(pieces())
        assert not datastore.has([digest_bytes(b"x" * 100_000)])
        if isinstance(datastore, Sweepable):
            assert list(datastore.blobs()) == []

    def test_writers_may_race(self, datastore: Datastore) -> None:
        contents = [content_of(size) for size in (10, 100_000)]
        failures: list[BaseException] = []

        def write() -> None:
            try:
                for content in contents * 5:
                    digest = datastore.put(iter([content]))
                    assert datastore.read(digest) == content
                    assert datastore.read(datastore.put((content,))) == content
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_local_files_hold_the_bytes(self, datastore: Datastore) -> None:
        if not isinstance(datastore, LocalFiles):
            pytest.skip("not a store of local files")
        digest = datastore.put([b"a file"])
        assert datastore.path(digest).read_bytes() == b"a file"
        assert datastore.path(digest).stat().st_mode & 0o222 == 0
        with pytest.raises(BlobMissingError):
            datastore.path(digest_bytes(b"absent"))

    def test_a_sweep_sees_every_blob(self, datastore: Datastore) -> None:
        if not isinstance(datastore, Sweepable):
            pytest.skip("cannot list its blobs")
        digests = {cast("Datastore", datastore).put([content_of(size)]) for size in SIZES}
        assert {digest for digest, _ in datastore.blobs()} == digests
        assert all(written_at > 1_600_000_000 for _, written_at in datastore.blobs())
