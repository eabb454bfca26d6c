"""``SshTarget``: attempts on another machine, in worker processes of a station that lives there."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.digests import Digest, digest_record
from mlflow_pipes.errors import TargetError
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.model.attempt import (
    Assignment,
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    Capacity,
    CapacityChanged,
    Failure,
    FailureKind,
    TargetEvent,
)
from mlflow_pipes.ports import Portable
from mlflow_pipes.targets.ssh.machine import FOLDER, Machine
from mlflow_pipes.targets.station.clocks import by_our_clock
from mlflow_pipes.targets.station.letters import Open, Opened
from mlflow_pipes.targets.station.messages import Cancel, decode_events, setup_of
from mlflow_pipes.targets.station.parcels import Parcels, spoilt_there, why_undelivered, why_unsent
from mlflow_pipes.worker.secrets import PREFIX

if TYPE_CHECKING:
    from mlflow_pipes.content import FileMemo
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.ssh.session import Session
    from mlflow_pipes.targets.station.mailbox import Absence

_NOT_AGAIN_S = 10.0  # after a machine could not be reached, attempts fail at once
_ENDS_WITHIN_S = 10.0
_log = logging.getLogger(__name__)


class _Task:
    """An attempt that is not answered."""

    __slots__ = ("assignment", "is_cancelled", "is_sent", "submitted_at", "was_repeated", "was_started")

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.submitted_at = time.time()
        self.is_cancelled = self.is_sent = self.was_started = self.was_repeated = False


class SshTarget:
    """Attempts on a machine that is reached by ssh.

    The machine needs an ssh server and a Python; our own package is sent there. Code travels as a snapshot. Where the
    datastore is a folder of this machine, the other one has its own: what attempts need is sent before, what they made
    is fetched before they are answered. Attempts go on when the connection breaks; see ``Machine.reconnect_s``.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are.
        checkout: as every target has it; here only left out of snapshots.
        scratch: as *checkout*.
        workspace: the workspace's folder, for ``current_run()``.
        host, port, user, key, known_hosts, python, folder, connect_timeout_s, reconnect_s: see ``Machine``.
        workers: how many attempts run at once; None for as many as the machine has processors.
        cpus: sum of the ``cpus`` of attempts that run at once; as many as workers.
        memory_bytes: sum of the ``memory_bytes`` of attempts that run at once; the machine's.
        gpus: how many graphics processors attempts can have; as many as the machine has.
        environ: environment variables of the attempts, over those of a session there.
        memo: digests of files hashed before.
    """

    runs_environments = True

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        checkout: Path,
        scratch: Path,
        workspace: str = "",
        host: str = "",
        port: int = 0,
        user: str = "",
        key: str = "",
        known_hosts: str = "",
        python: str = "python3",
        folder: str = FOLDER,
        connect_timeout_s: float = 20.0,
        reconnect_s: float = 60.0,
        workers: int | None = None,
        cpus: float | None = None,
        memory_bytes: int = 0,
        gpus: int | None = None,
        environ: Mapping[str, str] | None = None,
        memo: FileMemo | None = None,
    ) -> None:
        self.name = name
        self._machine = Machine(host, port, user, key, known_hosts, python, folder, connect_timeout_s, reconnect_s)
        self._datastore = datastore
        self._workspace = workspace
        self._environ = dict(environ or {})
        self._workers, self._cpus, self._memory_bytes, self._gpus = workers, cpus, memory_bytes, gpus
        self._note = scratch.parent / "machines" / f"{digest_record('pipes.ssh-note/1', (repr(self._machine),))[:16]}"
        self._parcels = Parcels(datastore, memo, [checkout, scratch, workspace])
        self._report: Callable[[TargetEvent], None] = lambda _: None
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._tasks: dict[AttemptId, _Task] = {}
        self._inbox: deque[_Task] = deque()
        self._cancelled: deque[AttemptId] = deque()
        self._something = threading.Event()
        self._session: Session | None = None
        self._not_connected: tuple[float, str] = (-math.inf, "")
        self._is_open = self._is_ending = self._is_wanted = False
        self._thread: threading.Thread | None = None

    # --- the port -------------------------------------------------------------------------------------------------

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready; the machine is connected to when there is something to do."""
        self._report = report
        if not isinstance(self._datastore, Portable):
            try:
                pickle.dumps(self._datastore, 5)
            except Exception as error:
                raise TargetError(
                    f"target {self.name!r} cannot send its {type(self._datastore).__name__} to {self._machine.where}: "
                    f"{error}"
                ) from error
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name=f"target {self.name}", daemon=True)
        self._thread.start()

    def capacity(self) -> Capacity:
        """Return what the machine holds: as configured, else as it was when it was last connected to."""
        found = self._opened_before()
        if found is None:
            slots = self._workers or 1
            cpus = self._cpus or (slots if self._workers else math.inf)
            gpus = math.inf if self._gpus is None else self._gpus
            return Capacity(cpus=float(cpus), memory_bytes=self._memory_bytes, slots=slots, gpus=gpus)
        slots = self._workers or found.slots
        return Capacity(
            cpus=float(self._cpus or slots),
            memory_bytes=self._memory_bytes or found.memory_bytes,
            slots=slots,
            gpus=found.gpus if self._gpus is None else self._gpus,
        )

    def warm(self, functions: Sequence[FunctionReference], environ: Mapping[str, str]) -> None:  # noqa: ARG002
        """Begin to connect."""
        self._is_wanted = True
        self._something.set()

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt."""
        if not self._is_open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        task = _Task(assignment)
        with self._lock:
            self._tasks[assignment.attempt] = task
        self._inbox.append(task)
        self._something.set()

    def cancel(self, attempt: AttemptId) -> None:
        """Have an attempt stopped."""
        self._cancelled.append(attempt)
        self._something.set()

    def close(self) -> None:
        """Stop everything, wait until the machine says that it has stopped, disconnect."""
        if not self._is_open:
            return
        self._is_open = False
        self._is_ending = True
        self._something.set()
        assert self._thread is not None
        self._thread.join()
        for task in self._unsent():
            self._fail(task, FailureKind.CANCELLED, "the target was closed before it began")
        session, self._session = self._session, None
        if session is not None:
            session.end(_ENDS_WITHIN_S)
        for task in self._all():
            message = (
                f"the target was closed; {self._machine.where} did not say that the work has stopped, and ends it "
                f"within {self._machine.reconnect_s:g} s"
            )
            self._fail(task, FailureKind.CANCELLED, message)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._is_ending:
            self._something.wait()
            self._something.clear()
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may wait for ever
                _log.exception("target %r failed", self.name)
                for task in self._unsent():
                    self._fail(task, FailureKind.WORLD, f"target {self.name!r} failed: {error}")

    def _turn(self) -> None:
        if self._is_wanted:
            self._is_wanted = False
            with suppress(TargetError):
                self._connected()
        self._cancel_all()
        while self._inbox and not self._is_ending:
            task = self._inbox.popleft()
            if self._get(task.assignment.attempt) is task:
                self._send(task)
            self._cancel_all()

    def _send(self, task: _Task) -> None:
        try:
            session = self._connected()
            message = self._parcels.message(task.assignment)
            needs = self._parcels.blobs(task.assignment) if isinstance(self._datastore, Portable) else ()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this attempt's
            self._fail(task, *why_unsent(error, self._machine.where))
        else:
            task.is_sent = True
            session.send(message, needs)
            if self._session is not session:  # it was lost meanwhile, and who said so may not have seen this one
                self._fail(task, FailureKind.LOST, f"the station on {self._machine.where} was lost")

    def _cancel_all(self) -> None:
        while self._cancelled:
            task = self._get(self._cancelled.popleft())
            if task is None or task.is_cancelled:
                continue
            task.is_cancelled = True
            session = self._session
            if not task.is_sent or session is None:
                self._fail(task, FailureKind.CANCELLED, "cancelled before it began")
            else:
                session.send(pickle.dumps(Cancel(task.assignment.attempt), 5))

    # --- the station there ----------------------------------------------------------------------------------------

    def _connected(self) -> Session:
        """Return the session, begun when there is none and it did not fail just now. Raises ``TargetError``."""
        with self._connecting:
            if self._session is not None:
                return self._session
            failed_at, why = self._not_connected
            if time.monotonic() - failed_at < _NOT_AGAIN_S:
                raise TargetError(why)
            from mlflow_pipes.targets.ssh.session import Session  # what is reused needs no connection

            store = self._datastore if isinstance(self._datastore, Portable) else None
            try:
                session = Session(self._machine, store, self._opening, self._on_told, self._on_lost)
            except TargetError as error:
                self._not_connected = (time.monotonic(), str(error))
                raise
            before = self.capacity()
            self._session = session
            with suppress(OSError):
                self._note.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._note, json.dumps(session.opened._asdict()))
            if self.capacity() != before:
                self._report(CapacityChanged(self.name, self.capacity()))
            return session

    def _opening(self, folder: str) -> Open:
        is_portable = isinstance(self._datastore, Portable)
        store = self._datastore.at(f"{folder}/store") if isinstance(self._datastore, Portable) else self._datastore
        secrets = {name: text for name, text in os.environ.items() if name.startswith(PREFIX)}
        setup = setup_of(self.name, store, self._workspace, {**secrets, **self._environ})
        return Open(setup, is_portable, self._workers, self._gpus)

    def _opened_before(self) -> Opened | None:
        if self._session is not None:
            return self._session.opened
        try:
            return Opened(**json.loads(self._note.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _on_lost(self, message: str) -> None:
        self._session = None
        for task in self._all():
            if task.is_sent:
                self._fail(task, FailureKind.CANCELLED if task.is_cancelled else FailureKind.LOST, message)

    # --- what it tells, from the session's thread -----------------------------------------------------------------

    def _on_told(self, encoded: bytes, absent: Mapping[Digest, Absence]) -> None:
        session = self._session
        for told in decode_events(encoded):
            event = told if session is None else by_our_clock(told, session.is_behind_s)
            if isinstance(event, CapacityChanged):
                continue  # a station has nothing to say of that
            task = self._get(event.attempt)
            if task is None:
                continue
            if isinstance(event, AttemptStarted):
                if task.was_started:
                    continue
                task.was_started = True
            if isinstance(event, AttemptSucceeded | AttemptFailed):
                self._on_answer(task, event, absent)
            else:
                self._report(event)

    def _on_answer(
        self, task: _Task, answer: AttemptSucceeded | AttemptFailed, absent: Mapping[Digest, Absence]
    ) -> None:
        if isinstance(answer, AttemptFailed) and self._repeats(task, answer.failure):
            return
        if absent:
            failure = Failure(FailureKind.WORLD, why_undelivered(absent, self._machine.where))
            answer = AttemptFailed(
                answer.attempt, failure, answer.started_at, answer.ended_at, answer.worker, answer.host
            )
        self._answer(answer)

    def _repeats(self, task: _Task, failure: Failure) -> bool:
        """Send an attempt again whose inputs are here and were spoilt there; tell whether that was done."""
        session = self._session
        if task.was_repeated or task.is_cancelled or session is None:
            return False
        blobs = spoilt_there(failure, self._datastore)
        if blobs:
            task.was_repeated = True
            session.forget(blobs)
            self._inbox.append(task)
            self._something.set()
        return bool(blobs)

    def _answer(self, answer: AttemptSucceeded | AttemptFailed) -> None:
        with self._lock:
            task = self._tasks.pop(answer.attempt, None)
        if task is not None:
            self._report(answer)

    def _fail(self, task: _Task, kind: FailureKind, message: str) -> None:
        failure = Failure(kind, message)
        self._answer(AttemptFailed(task.assignment.attempt, failure, task.submitted_at, time.time()))

    def _get(self, attempt: AttemptId) -> _Task | None:
        with self._lock:
            return self._tasks.get(attempt)

    def _all(self) -> list[_Task]:
        with self._lock:
            return list(self._tasks.values())

    def _unsent(self) -> list[_Task]:
        return [task for task in self._all() if not task.is_sent]
