"""Attempts at steps that use Spark themselves: in processes of this machine, each with a session of its own."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.model.attempt import AttemptFailed, AttemptId, AttemptSucceeded, Failure, FailureKind
from mlflow_pipes.spark_session import REMOTE
from mlflow_pipes.targets.local.target import LocalTarget
from mlflow_pipes.targets.spark.plan import with_session

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import Assignment, TargetEvent
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.spark.cluster import Cluster

_RELEASES_WITHIN_S = 10.0
_KILLED = {FailureKind.CANCELLED, FailureKind.TIMEOUT, FailureKind.LOST}


def session_of(attempt: AttemptId) -> str:
    """Return the id of an attempt's session: who knows the attempt can stop what it does.

    >>> session_of(AttemptId("r", "load", 1)) == session_of(AttemptId("r", "load", 2))
    False
    """
    return str(uuid.UUID(digest_record("pipes.spark-session/1", tuple(attempt))[:32], version=4))


class SparkSteps:
    """Worker processes of this machine whose attempts have sessions at the driver.

    The process of a cancelled attempt is killed, and then what its session has under way is stopped at the driver; only
    then it is answered.

    Args:
        name: the target's.
        datastore: where inputs and outputs are.
        cluster: where sessions are.
        report: takes events.
        folders: ``checkout`` and ``scratch``.
        workspace: the workspace's folder, for ``current_run()``.
        environ: environment variables of attempts.
        sessions: how many attempts run at once.
    """

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        cluster: Cluster,
        *,
        report: Callable[[TargetEvent], None],
        folders: Mapping[str, Path],
        workspace: str,
        environ: Mapping[str, str],
        sessions: int,
    ) -> None:
        self._make: Callable[[], LocalTarget] = lambda: LocalTarget(
            name,
            datastore,
            workers=sessions,
            gpus=0,
            checkout=folders["checkout"],
            scratch=folders["scratch"],
            workspace=workspace,
            environ=environ,
        )
        self._cluster = cluster
        self._report = report
        self._processes: LocalTarget | None = None
        self._waiting: dict[AttemptId, Assignment] = {}
        self._begun: set[AttemptId] = set()
        self._unwanted: set[AttemptId] = set()  # cancelled by the engine
        self._ending: dict[str, tuple[AttemptFailed, float]] = {}  # killed; their sessions are not stopped yet
        self._remote = self._why_lost = ""
        self._is_asked = False

    # --- attempts -------------------------------------------------------------------------------------------------

    def begin(self, assignment: Assignment) -> None:
        """Take an attempt; it begins when there are sessions."""
        self._waiting[assignment.attempt] = assignment
        why = self._cluster.want()
        if why:
            self.on_trouble(why)
        else:
            self.on_ready()

    def cancel(self, attempt: AttemptId) -> bool:
        """Have an attempt stopped; tell whether it is one of these."""
        if attempt in self._waiting:
            self._fail(self._waiting.pop(attempt), FailureKind.CANCELLED, "cancelled before it began")
            return True
        if attempt in self._begun and self._processes is not None:
            self._unwanted.add(attempt)
            self._processes.cancel(attempt)
            return True
        return any(held.attempt == attempt for held, _ in self._ending.values())

    def on_ready(self) -> None:
        """Begin what waits, now that the driver is there."""
        if not self._waiting or not self._cluster.is_up:
            return
        if self._remote:
            self._begin_all()
        elif not self._is_asked:
            self._is_asked = True
            self._cluster.say({"do": "session"})

    def on_said(self, said: Mapping[str, Any]) -> None:
        """Take what the driver says of sessions."""
        if "released" in said:
            held = self._ending.pop(said["released"], None)
            if held is not None:
                self._report(self._lost(held[0], said["error"]) if said["error"] else held[0])
        elif "session" in said:
            self._is_asked = False
            if said["error"]:
                self.on_trouble(self._cluster.explained(said["error"]))
            else:
                self._remote = said["session"]
                self._begin_all()

    def on_trouble(self, message: str) -> None:
        """Answer for what waits, and for what waits for the driver."""
        for assignment in list(self._waiting.values()):
            del self._waiting[assignment.attempt]
            self._fail(assignment, FailureKind.WORLD, message)
        if not self._cluster.is_up:
            self._remote, self._is_asked, self._why_lost = "", False, message
            for attempt in list(self._begun):
                assert self._processes is not None
                self._processes.cancel(attempt)
            self._let_all_end()

    def _begin_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting and self._processes is None:
            self._processes = self._make()
            self._processes.start(self._on_event)
        for attempt, assignment in waiting.items():
            assert self._processes is not None
            self._begun.add(attempt)
            session = session_of(attempt)
            self._cluster.say({"do": "hold", "session": session})
            remote = with_session(self._remote, session)
            self._processes.submit(replace(assignment, environ={**assignment.environ, REMOTE: remote}))

    def _on_event(self, event: TargetEvent) -> None:
        attempt = getattr(event, "attempt", None)
        if attempt is None:
            return
        if isinstance(event, AttemptSucceeded | AttemptFailed):
            self._begun.discard(attempt)
            session = session_of(attempt)
            if isinstance(event, AttemptFailed) and (event.failure.kind in _KILLED or _is_broken(event.failure)):
                self._ending[session] = (event, time.monotonic() + _RELEASES_WITHIN_S)
                self._cluster.say({"do": "release", "session": session})
                if not self._cluster.is_up:
                    self._let_all_end()
                return
            self._cluster.say({"do": "forget", "session": session})
        self._report(event)

    # --- for the loop ---------------------------------------------------------------------------------------------

    def filenos(self) -> Iterable[int]:
        """Return the descriptors that tell of these processes."""
        return () if self._processes is None else self._processes.filenos()

    def poll(self) -> None:
        """Report what has happened."""
        if self._processes is not None:
            self._processes.poll()
        now = time.monotonic()
        for session, (held, until) in list(self._ending.items()):
            if now >= until:
                del self._ending[session]
                told = f"{held.failure.message}; whether Spark has stopped its jobs is not known"
                self._report(replace(held, failure=replace(held.failure, message=told)))

    def next_deadline(self) -> float:
        """Return when to look again; infinity for never."""
        due = [until for _, until in self._ending.values()]
        deadline = None if self._processes is None else self._processes.next_deadline()
        return min([*due, math.inf if deadline is None else deadline])

    def close(self) -> None:
        """Kill what runs, and answer for all; the driver, which ends next, stops what sessions have under way."""
        for assignment in list(self._waiting.values()):
            del self._waiting[assignment.attempt]
            self._fail(assignment, FailureKind.CANCELLED, "the target was closed before it began")
        if self._processes is not None:
            self._processes.close()
        self._let_all_end()

    def _let_all_end(self) -> None:
        for session in list(self._ending):
            held, _ = self._ending.pop(session)
            is_gone = bool(self._why_lost) and not self._cluster.is_up
            self._report(self._lost(held, self._why_lost) if is_gone else held)

    def _lost(self, answer: AttemptFailed, why: str) -> AttemptFailed:
        """Return the answer of an attempt whose driver is gone; who was cancelled or took too long is still that."""
        if answer.failure.kind is FailureKind.TIMEOUT or answer.attempt in self._unwanted:
            return answer
        return replace(answer, failure=Failure(FailureKind.LOST, f"its Spark session is gone: {why}"))

    def _fail(self, assignment: Assignment, kind: FailureKind, message: str) -> None:
        now = time.time()
        self._report(AttemptFailed(assignment.attempt, Failure(kind, message), now, now))


def _is_broken(failure: Failure) -> bool:
    """Tell whether a step failed because nobody answers at the driver any more."""
    is_connect = any("SparkConnect" in name or name.startswith("grpc.") for name in failure.exception)
    return is_connect and ("UNAVAILABLE" in failure.message or "failed to connect" in failure.message.lower())
