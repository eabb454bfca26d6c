"""A station on another machine, as its orchestrator has it: connected, connected again, given up."""

from __future__ import annotations

import logging
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from mlflow_pipes.errors import TargetError
from mlflow_pipes.targets.ssh.connection import Connection, SessionGoneError
from mlflow_pipes.targets.station.letters import End, Ended, Open, Opened, Refused, Told
from mlflow_pipes.targets.station.post import Post, silence_for

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.ssh.machine import Machine
    from mlflow_pipes.targets.station.mailbox import Absence

_LONGEST_PAUSE_S = 5.0
_KILLS_WITHIN_S = 2.0
_OPENS_WITHIN_S = 60.0
_HANGS_UP_WITHIN_S = 2.0
_log = logging.getLogger(__name__)


class Session:
    """One station on a machine.

    A connection that breaks is made again; letters of both sides that were not acknowledged are sent then. When that
    does not succeed within the machine's ``reconnect_s``, the station has killed all by itself, and *on_lost* is told.

    Args:
        machine: where it is to be.
        datastore: where blobs come from and go to; None when the other machine reaches the same.
        opening: returns the first letter, given our folder there.
        on_told: takes events, encoded, with the reasons why some of their blobs did not come.
        on_lost: takes why the station is gone; called once, and not after ``end``.

    Attributes:
        opened: what it has.
        is_behind_s: how far its clock is behind ours.

    Raises:
        TargetError: it cannot be begun; says why and what helps.
    """

    opened: Opened
    is_behind_s: float = 0.0

    def __init__(
        self,
        machine: Machine,
        datastore: Datastore | None,
        opening: Callable[[str], Open],
        on_told: Callable[[bytes, Mapping[Digest, Absence]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._on_told = on_told
        self._on_lost = on_lost
        self._name = secrets.token_hex(8)
        self._answered = threading.Event()
        self._refused = ""
        self._has_ended = threading.Event()
        self._is_over = threading.Event()
        self._post = Post(datastore, self._deliver, remembers=True, silence_s=silence_for(machine.reconnect_s))
        connection = Connection(machine, self._name, is_new=True, within_s=machine.connect_timeout_s)
        self._connection = connection
        self._post.send(pickle.dumps(opening(connection.folder), 5))
        self._thread = threading.Thread(target=self._keep, args=(connection,), name="session", daemon=True)
        self._thread.start()
        self._answered.wait(_OPENS_WITHIN_S)
        if self._refused or not hasattr(self, "opened"):
            self._give_up()
            raise TargetError(self._refused or f"the station on {machine.where} did not answer")

    def send(self, body: bytes, needs: Iterable[Digest] = ()) -> None:
        """Send a letter with its blobs, now or when there is a connection again."""
        self._post.send(body, needs)

    def forget(self, digests: Iterable[Digest]) -> None:
        """Take note that blobs are not there, whatever was sent."""
        self._post.forget(digests)

    def end(self, at_most_s: float) -> None:
        """Have all killed there, and wait until that is told; idempotent."""
        if not self._is_over.is_set():
            self._post.send(pickle.dumps(End(), 5))
            if self._has_ended.wait(at_most_s):
                self._thread.join(_HANGS_UP_WITHIN_S)  # it waits for our acknowledgement
        self._give_up()

    def _give_up(self) -> None:
        self._is_over.set()
        self._connection.line.cut()
        self._thread.join()

    def _deliver(self, body: bytes, absent: Mapping[Digest, Absence]) -> None:
        match pickle.loads(body):
            case Told(events):
                self._on_told(events, absent)
            case Opened() as opened:
                self.is_behind_s = time.time() - opened.now
                self.opened = opened
                self._answered.set()
            case Refused(message):
                self._refused = message
                self._answered.set()
            case Ended():
                self._has_ended.set()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _keep(self, connection: Connection) -> None:
        found: Connection | None = connection
        while found is not None:
            why = self._post.speak(found.line)
            found.close()
            if self._is_over.is_set() or self._has_ended.is_set():
                return
            _log.warning("the connection to %s broke: %s", self._machine.where, why)
            found = self._found_again(why)

    def _found_again(self, why: str) -> Connection | None:
        """Return a new connection to the station; None when that is over, or was told to be lost."""
        lost_at = time.monotonic()
        kept_s = self._machine.reconnect_s + silence_for(self._machine.reconnect_s) + _KILLS_WITHIN_S
        pause_s = 0.1
        while not self._is_over.is_set():
            left_s = lost_at + kept_s - time.monotonic()
            if left_s <= 0:
                self._lose(
                    f"the connection to {self._machine.where} broke and did not come back within "
                    f"{self._machine.reconnect_s:g} s ({why}); its work there has ended by now"
                )
                return None
            try:
                within_s = min(left_s, self._machine.connect_timeout_s)
                found = Connection(self._machine, self._name, is_new=False, within_s=within_s)
            except SessionGoneError as error:
                self._lose(str(error))
                return None
            except TargetError as error:
                why = str(error)
            else:
                self._connection = found
                if not self._is_over.is_set():
                    return found
                found.close()
            self._is_over.wait(min(pause_s, max(0.0, left_s)))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return None

    def _lose(self, message: str) -> None:
        self._refused = message
        self._answered.set()
        if not self._is_over.is_set():
            self._is_over.set()
            self._on_lost(message)
