"""Letters with blobs between two machines: each read once, in whatever pieces the connection breaks."""

import contextlib
import os
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.station.mailbox import Mailbox
from mlflow_pipes.targets.station.post import Line, Post

BLOBS = [digest_bytes(bytes([number])) for number in range(5)]


@given(
    letters=st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=6),
    here=st.sets(st.integers(0, 4)),
    moves=st.lists(st.sampled_from(["break", "say", "blob", "last blob", "acknowledge"]), max_size=30),
)
def test_each_letter_is_read_once_when_its_blobs_are_there_however_often_the_connection_breaks(letters, here, moves):
    sender, receiver = Mailbox(remembers=True), Mailbox()
    store = {BLOBS[number] for number in here}
    fetched, read, asked = [], [], []
    for number, needs in enumerate(letters):
        sender.write(b"%d" % number, [BLOBS[need] for need in needs])

    def take_note(deliveries):
        for delivery in deliveries:
            assert not delivery.absent
            number = int(delivery.body)
            assert {BLOBS[need] for need in letters[number]} <= store
            read.append(number)

    for move in [*moves, *["say"] * len(letters), *["blob"] * len(BLOBS), "acknowledge"]:
        if move == "break":
            sender.connected(receiver.received)
            asked = receiver.connected(0)
        elif move == "say" and (letter := sender.next_to_say()) is not None:
            deliveries, more = receiver.take(letter, store.intersection)
            take_note(deliveries)
            asked += more
        elif move.endswith("blob") and asked:
            fetched.append(asked.pop(0 if move == "blob" else -1))
            store.add(fetched[-1])
            take_note(receiver.arrived(fetched[-1]))
        elif move == "acknowledge":
            sender.acknowledged(receiver.received)
    assert sender.is_empty()
    assert sorted(read) == list(range(len(letters)))
    assert len(fetched) == len(set(fetched))
    assert not set(fetched) & {BLOBS[number] for number in here}


def test_what_a_blob_could_not_be_had_for_is_read_nevertheless_and_told():
    sender, receiver = Mailbox(), Mailbox()
    sender.write(b"letter", BLOBS[:2])
    receiver.take(sender.next_to_say(), lambda digests: set())
    receiver.arrived(BLOBS[0])
    (delivery,) = receiver.arrived(BLOBS[1], "why")
    assert delivery == (b"letter", {BLOBS[1]: "why"})


class Ends:
    """Two posts, and a connection between them that can be broken and made again."""

    def __init__(self, folder, **options):
        self.read = []
        self.left = Post(LocalDatastore(folder / "left"), lambda *_: None, remembers=True, **options)
        self.right = Post(LocalDatastore(folder / "right"), lambda *one: self.read.append(one), **options)
        self._threads = []

    def connect(self):
        self.sockets = socket.socketpair()
        self._threads = [
            threading.Thread(target=post.speak, args=(Line(end.fileno(), end.fileno(), self._cut(end)),))
            for post, end in zip((self.left, self.right), self.sockets, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _cut(self, end):
        def cut():
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

        return cut

    def disconnect(self):
        for end in self.sockets:
            self._cut(end)()
        for thread in self._threads:
            thread.join()
        for end in self.sockets:
            end.close()

    def until(self, reached):
        end = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def ends(tmp_path):
    ends = Ends(tmp_path)
    ends.connect()
    yield ends
    ends.disconnect()


def test_a_large_blob_arrives_although_the_connection_breaks_in_the_midst_of_it(ends):
    blob = os.urandom(20_000_000)
    digest = ends.left.datastore.put(iter([blob]))
    ends.left.send(b"letter", [digest])
    arriving = ends.right.datastore.folder / "incoming"
    ends.until(lambda: ends.read or (arriving.exists() and any(one.stat().st_size for one in arriving.iterdir())))
    ends.disconnect()
    ends.connect()
    ends.until(lambda: ends.read)
    assert ends.read == [(b"letter", {})]
    assert bytes(ends.right.datastore.read(digest)) == blob
    assert not list(arriving.iterdir())


def test_letters_without_blobs_do_not_wait_for_a_large_one(ends):
    digest = ends.left.datastore.put(iter([os.urandom(30_000_000)]))
    ends.left.send(b"large", [digest])
    ends.left.send(b"small")
    ends.until(lambda: len(ends.read) == 2)
    assert [body for body, _ in ends.read] == [b"small", b"large"]


def test_a_blob_that_cannot_be_stored_is_told_as_ours_and_sent_again_with_the_next_letter(ends):
    folder = ends.right.datastore.folder
    folder.write_text("not a folder")
    digest = ends.left.datastore.put((b"blob",))
    ends.left.send(b"first", [digest])
    ends.until(lambda: ends.read)
    (body, absent) = ends.read[0]
    assert body == b"first"
    assert absent[digest].is_ours
    assert "cannot write to datastore" in absent[digest].why
    folder.unlink()
    ends.until(lambda: digest not in ends.left._mailbox._carried)
    ends.left.send(b"second", [digest])
    ends.until(lambda: len(ends.read) == 2)
    assert ends.read[1] == (b"second", {})
    assert ends.right.datastore.has([digest])


def test_a_blob_that_the_sender_has_not_is_told_as_its_fault(ends):
    absent = digest_bytes(b"never stored")
    ends.left.send(b"letter", [absent])
    ends.until(lambda: ends.read)
    assert not ends.read[0][1][absent].is_ours


def test_a_silent_connection_is_taken_for_broken(tmp_path):
    post = Post(None, lambda *_: None, silence_s=0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        why = post.speak(Line(ours.fileno(), ours.fileno(), lambda: ours.shutdown(socket.SHUT_RDWR)))
    assert "nothing was heard for 0.1 s" in why
