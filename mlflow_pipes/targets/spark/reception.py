"""Where tasks of Spark's come for attempts: who knows the secret of a job is let in."""

from __future__ import annotations

import itertools
import logging
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_pipes.errors import PipesError, TargetError
from mlflow_pipes.targets.spark.greeting import Arrived, Look, hear, say, welcome
from mlflow_pipes.targets.spark.on_executor import SILENCE_S
from mlflow_pipes.targets.station.letters import End, Ended, Open, Opened, Refused, Told
from mlflow_pipes.targets.station.messages import Cancel
from mlflow_pipes.targets.station.post import Line, Post

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.attempt import AttemptId
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.station.mailbox import Absence

_GREETS_WITHIN_S = 10.0
_log = logging.getLogger(__name__)


class Visitor:
    """A task of Spark's that is here for attempts.

    Attributes:
        number: no other's.
        arrived: what it says of itself.
        opened: what its station has, once that has begun.
        is_behind_s: how far its clock is behind ours.
        refused: why it has no station; empty while it may have one.
        has_ended: it was sent away, and does nothing any more.
        on_told: takes events, encoded, with the reasons why some of their blobs did not come.
    """

    on_told: Callable[[Visitor, bytes, Mapping[Digest, Absence]], None]
    on_opened: Callable[[Visitor], None]

    _numbers = itertools.count(1)

    def __init__(self, connection: socket.socket, arrived: Arrived, datastore: Datastore) -> None:
        self.number = next(self._numbers)
        self.arrived = arrived
        self.opened: Opened | None = None
        self.is_behind_s = 0.0
        self.refused = ""
        self.has_ended = False
        self._connection = connection
        self._post = Post(None if arrived.sees else datastore, self._deliver, remembers=True, silence_s=SILENCE_S)

    def send(self, body: bytes, needs: Iterable[Digest] = ()) -> None:
        """Have an attempt done."""
        self._post.send(body, needs)

    def cancel(self, attempt: AttemptId) -> None:
        """Have an attempt stopped."""
        self._post.send(pickle.dumps(Cancel(attempt), 5))

    def forget(self, digests: Iterable[Digest]) -> None:
        """Take note that blobs are not there, whatever was sent."""
        self._post.forget(digests)

    def dismiss(self) -> None:
        """Have it kill what it does, and go."""
        self._post.send(pickle.dumps(End(), 5))

    def cut(self) -> None:
        """Break the connection: it kills what it does."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def speak(self, opening: Open) -> str:
        """Exchange letters until the end; return how that came."""
        self._post.send(pickle.dumps(opening, 5))
        number = self._connection.fileno()
        return self._post.speak(Line(number, number, self.cut))

    def _deliver(self, body: bytes, absent: Mapping[Digest, Absence]) -> None:
        match pickle.loads(body):
            case Told(events):
                self.on_told(self, events, absent)
            case Opened() as opened:
                self.is_behind_s = time.time() - opened.now
                self.opened = opened
                self.on_opened(self)
            case Refused(message):
                self.refused = message
                self.cut()
            case Ended():
                self.has_ended = True  # it hangs up when it has our acknowledgement


class Reception:
    """Listens for tasks.

    Args:
        address: to listen at; the port is free to choose.
        secret: that they must know.
        look: what they are told to look for.
        datastore: where their blobs come from and go to, where they do not reach it.
        opening: returns the first letter for one.
        on_opened: told of each whose station has begun.
        on_told: takes what each says.
        on_gone: told of each that is gone, and how.

    Attributes:
        port: where it listens.

    Raises:
        TargetError: it cannot listen there.
    """

    def __init__(
        self,
        address: str,
        secret: bytes,
        *,
        look: Look,
        datastore: Datastore,
        opening: Callable[[Arrived], Open],
        on_opened: Callable[[Visitor], None],
        on_told: Callable[[Visitor, bytes, Mapping[Digest, Absence]], None],
        on_gone: Callable[[Visitor, str], None],
    ) -> None:
        self._secret = secret
        self._look = look
        self._datastore = datastore
        self._opening = opening
        self._on_opened, self._on_told, self._on_gone = on_opened, on_told, on_gone
        try:
            self._listener = socket.create_server((address, 0), backlog=512)
        except OSError as error:
            raise TargetError(
                f"cannot listen at {address} for executors ({error.strerror}): name an address of this machine by "
                "`spark.driver.bindAddress` in `conf`"
            ) from error
        self.port = int(self._listener.getsockname()[1])
        self._is_closed = False
        self._thread = threading.Thread(target=self._accept, name="reception", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._is_closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                connection, address = self._listener.accept()
            except OSError:
                if not self._is_closed:
                    time.sleep(0.05)  # such as no descriptor left
                continue
            visit = threading.Thread(target=self._receive, args=(connection, address), name="visitor", daemon=True)
            visit.start()

    def _receive(self, connection: socket.socket, address: object) -> None:
        with connection:
            try:
                connection.settimeout(_GREETS_WITHIN_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not welcome(connection, self._secret):
                    _log.warning("somebody at %s does not know the secret of this run's Spark jobs", address)
                    return
                say(connection, self._look)
                arrived = hear(connection)
                connection.settimeout(None)
            except (OSError, EOFError) as error:
                _log.info("a task from %s went away: %s", address, error)
                return
            visitor = Visitor(connection, arrived, self._datastore)
            visitor.on_told, visitor.on_opened = self._on_told, self._on_opened
            try:
                opening = self._opening(arrived)
            except PipesError as error:
                visitor.refused = str(error)
            self._on_gone(visitor, visitor.refused or visitor.speak(opening))
