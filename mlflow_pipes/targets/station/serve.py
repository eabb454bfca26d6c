"""A station as a process of its own, which outlives the connections that it is spoken to through.

``main FOLDER SESSION RECONNECT_S`` listens at a socket in the session's folder. It ends when it is told to, and when
nobody has spoken to it for RECONNECT_S seconds; whatever it runs is killed then. The folder holds what sessions share:
the store of blobs, unpacked code, environments; what nobody used for a week is removed by whoever comes next.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import select
import shutil
import socket
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import PipesError, TargetError
from mlflow_pipes.machine import capacity
from mlflow_pipes.model.attempt import AttemptFailed, AttemptId, AttemptSucceeded, Failure, FailureKind
from mlflow_pipes.targets.local.gpus import named_gpus
from mlflow_pipes.targets.station.cleaning import clean, hold, in_use
from mlflow_pipes.targets.station.gpu_locks import GpuLocks
from mlflow_pipes.targets.station.letters import End, Ended, Open, Opened, Refused, Told, blobs_of_answer
from mlflow_pipes.targets.station.messages import Cancel, Message, Work, encode_events
from mlflow_pipes.targets.station.post import Line, Post, silence_for
from mlflow_pipes.targets.station.room import Room
from mlflow_pipes.targets.station.station import Station

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow_pipes.model.attempt import TargetEvent
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.station.mailbox import Absence

SOCKET = "socket"
_LOOK_EVERY_S = 0.5
_LAST_WORDS_S = 10.0
_log = logging.getLogger(__name__)


class Session:
    """One orchestrator's station here.

    Args:
        own: its folder.
        reconnect_s: how long to go on without a connection.

    Attributes:
        store: the blobs of this machine, where it has its own.
    """

    def __init__(self, own: Path, reconnect_s: float) -> None:
        self.store: Datastore | None = None
        self._own = own
        self._reconnect_s = reconnect_s
        self._post = Post(None, self._deliver, silence_s=silence_for(reconnect_s))
        self._station: Station | None = None
        self._todo: queue.SimpleQueue[tuple[Message | End, Mapping[Digest, Absence]] | None] = queue.SimpleQueue()
        self._doing = threading.Thread(target=self._do_all, name="doing", daemon=True)
        self._given: set[AttemptId] = set()  # that the station has, and has not answered
        self._is_over = self._is_ending = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._lost_at = time.monotonic()

    def serve(self, listener: socket.socket) -> None:
        """Take connections, one after the other, until the end."""
        self._doing.start()
        speaking: tuple[threading.Thread, Line] | None = None
        try:
            while not self._is_over:
                if listener in select.select([listener, self._wake_read], [], [], _LOOK_EVERY_S)[0]:
                    if speaking is not None:  # who comes anew knows better than we that the old one is gone
                        speaking[1].cut()
                        speaking[0].join()
                    speaking = self._speak(listener.accept()[0])
                elif (speaking is None or not speaking[0].is_alive()) and self._was_left():
                    break
                elif self._station is not None and self._station.is_closed and not self._is_ending:
                    self._post.wait_until_sent(_LAST_WORDS_S)
                    _log.error("the station has failed; the next attempt may have another")
                    break
        finally:
            if self._station is not None:
                self._station.close()
            if speaking is not None:
                speaking[1].cut()
                speaking[0].join()

    def serve_connection(self, connection: socket.socket) -> None:
        """Speak through one connection until it breaks or the orchestrator ends the session; kill what runs then."""
        self._doing.start()
        line = _line(connection)

        def speak() -> None:
            self._post.speak(line)
            self._wake_write.send(b"\0")

        speaking = threading.Thread(target=speak, name="speaking", daemon=True)
        speaking.start()
        try:
            while speaking.is_alive() and not self._is_over:
                select.select([self._wake_read], [], [], _LOOK_EVERY_S)
                if self._station is not None and self._station.is_closed and not self._is_ending:
                    self._post.wait_until_sent(_LAST_WORDS_S)
                    break
        finally:
            if self._station is not None:
                self._station.close()
            line.cut()
            speaking.join()
            self._todo.put(None)

    def _was_left(self) -> bool:
        is_left = time.monotonic() - self._lost_at > self._reconnect_s
        if is_left:
            _log.warning("nobody has spoken to this station for %g s; it ends", self._reconnect_s)
        return is_left

    def _speak(self, connection: socket.socket) -> tuple[threading.Thread, Line]:
        line = _line(connection)

        def speak() -> None:
            why = self._post.speak(line)
            connection.close()
            self._lost_at = time.monotonic()
            _log.info("connection broken: %s", why)

        thread = threading.Thread(target=speak, name="speaking", daemon=True)
        thread.start()
        return thread, line

    # --- what the orchestrator says -------------------------------------------------------------------------------

    def _deliver(self, body: bytes, absent: Mapping[Digest, Absence]) -> None:
        message = pickle.loads(body)
        if isinstance(message, Open):
            self._open(message)
        else:
            self._todo.put((message, absent))

    def _open(self, message: Open) -> None:
        slots = message.slots or capacity.processors()
        gpus = len(capacity.gpus()) if message.gpus is None else message.gpus
        if message.has_own_store:
            self.store = self._post.datastore = pickle.loads(message.setup.datastore)
        try:
            room = Room(slots, gpus, GpuLocks(self._own / "gpus", named_gpus(gpus)))
            self._station = Station(message.setup, self._own, self._report, room=room)
        except (PipesError, OSError) as error:
            self._post.send(pickle.dumps(Refused(str(error)), 5))
            return
        opened = Opened(slots, capacity.memory_bytes(), gpus, socket.gethostname(), time.time())
        self._post.send(pickle.dumps(opened, 5))

    def _do_all(self) -> None:
        while (entry := self._todo.get()) is not None:
            message, absent = entry
            if isinstance(message, End):
                self._end()
                return
            self._do(message, absent)

    def _end(self) -> None:
        self._is_ending = True
        if self._station is not None:
            self._station.close()
        self._post.send(pickle.dumps(Ended(), 5))
        self._post.wait_until_sent(_LAST_WORDS_S)
        self._is_over = True
        self._wake_write.send(b"\0")

    def _do(self, message: Message, absent: Mapping[Digest, Absence]) -> None:
        failed = ""
        try:
            if self._station is None:
                raise TargetError("there is no station here")
            failed = next((one.why for one in absent.values() if one.is_ours), "")
            if isinstance(message, Cancel):
                self._station.do(message)
                if message.attempt not in self._given:  # its blobs are on their way: it will not begin
                    self._fail(message.attempt, "cancelled before it began", FailureKind.CANCELLED)
                return
            if not failed:
                self._given.add(message.assignment.attempt)
                self._station.do(message)
                return
        except PipesError as error:
            failed = str(error)
        if isinstance(message, Work):
            self._fail(message.assignment.attempt, f"on {socket.gethostname()}: {failed}")

    def _fail(self, attempt: AttemptId, message: str, kind: FailureKind = FailureKind.WORLD) -> None:
        now = time.time()
        failure = Failure(kind, message)
        self._report([AttemptFailed(attempt, failure, now, now, host=socket.gethostname())])

    # --- what the station says ------------------------------------------------------------------------------------

    def _report(self, events: Sequence[TargetEvent]) -> None:
        batch: list[TargetEvent] = []
        for event in events:
            if not isinstance(event, AttemptSucceeded | AttemptFailed):
                batch.append(event)
                continue
            self._tell(batch)
            batch = []
            self._answer(event)
        self._tell(batch)

    def _answer(self, answer: AttemptSucceeded | AttemptFailed) -> None:
        self._given.discard(answer.attempt)
        needs: set[Digest] = set()
        if self.store is not None:
            if isinstance(answer, AttemptFailed) and answer.failure.kind is FailureKind.INPUT:
                with suppress(PipesError, ValueError):  # what is corrupt must not stand in the way of what will be sent
                    self.store.delete(map(Digest.parse, answer.failure.blobs))
            try:
                needs = blobs_of_answer(answer, self.store)
            except PipesError as error:
                self._fail(answer.attempt, f"on {socket.gethostname()}: {error}")
                return
        self._tell([answer], needs)

    def _tell(self, events: Sequence[TargetEvent], needs: set[Digest] | frozenset[Digest] = frozenset()) -> None:
        if events:
            self._post.send(pickle.dumps(Told(encode_events(events)), 5), needs)


def _line(connection: socket.socket) -> Line:
    connection.settimeout(None)
    number = connection.fileno()

    def cut() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    return Line(number, number, cut)


@contextmanager
def session_folder(folder: Path) -> Iterator[Path]:
    """Give a session a folder, linked to what sessions share; it is gone afterwards, however the process ends.

    Args:
        folder: what sessions share.
    """
    own = folder / "sessions" / uuid.uuid4().hex
    own.mkdir(parents=True)
    held, using = hold(own), in_use(folder)
    assert held is not None
    try:
        _link_shared(folder, own)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(held)
        os.close(using)


def _link_shared(folder: Path, own: Path) -> None:
    for kept in ("code", "environments", "gpus"):  # what is unpacked and built is there for the next session
        (folder / kept).mkdir(exist_ok=True)
        (own / kept).symlink_to(folder / kept)


def main() -> None:
    """Serve one session; says ``ready`` to its standard output when it can be spoken to."""
    folder, own, reconnect_s = Path(sys.argv[-3]), Path(sys.argv[-2]), float(sys.argv[-1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.path = [entry for entry in sys.path if entry]
    os.chdir(own)  # the name of a socket must be short
    if hold(own) is None:
        sys.exit(f"another process serves {own}")
    using = in_use(folder)
    _link_shared(folder, own)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(2, 1)
    session = Session(own, reconnect_s)
    try:
        session.serve(listener)
    finally:
        os.chdir("/")
        shutil.rmtree(own, ignore_errors=True)
        os.close(using)
        with suppress(OSError, PipesError):
            clean(folder, session.store)
