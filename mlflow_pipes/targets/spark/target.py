"""``SparkTarget``: its port, and the thread that hears all news and passes them on to who keeps the attempts."""

from __future__ import annotations

import logging
import math
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import TargetError
from mlflow_pipes.model.attempt import CapacityChanged, FailureKind
from mlflow_pipes.targets.spark.cluster import Cluster
from mlflow_pipes.targets.spark.inbox import Cancelled, Gone, Heard, Inbox, Opened, Submitted, Told
from mlflow_pipes.targets.spark.plain_steps import PlainSteps
from mlflow_pipes.targets.spark.plan import SparkPlan
from mlflow_pipes.targets.spark.spark_steps import SparkSteps
from mlflow_pipes.targets.station.parcels import Parcels

if TYPE_CHECKING:
    from mlflow_pipes.content import FileMemo
    from mlflow_pipes.model.attempt import Assignment, AttemptId, Capacity, TargetEvent
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore

_LOOK_EVERY_S = 1.0
_ENDS_WITHIN_S = 10.0
_MOST_LOSSES = 3
_log = logging.getLogger(__name__)


class SparkTarget:
    """Attempts on a Spark cluster, in Spark on this machine, or by a Spark Connect server.

    Spark's tasks come to this process for attempts, and do one after the other in child processes that can be killed;
    Spark itself knows nothing of attempts. Code travels as a snapshot. Where executors do not reach the datastore,
    blobs are sent there and back. A step that wants a Spark session runs in a process of this machine, and has one of
    its own at the driver.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are.
        checkout: folder where Spark steps have their input files.
        scratch: folder in which attempts have their temporary folders.
        workspace: the workspace's folder, for ``current_run()``.
        master, conf, python, host, tasks, sessions, connect_timeout_s, no_workers_timeout_s: see ``SparkPlan``.
        environ: environment variables of the attempts, over those of the executors.
        memo: digests of files hashed before.
    """

    runs_environments = True
    gives_spark = True

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        checkout: Path,
        scratch: Path,
        workspace: str = "",
        master: str = "local[*]",
        conf: Mapping[str, Any] | None = None,
        python: str = "",
        host: str = "",
        tasks: int | None = None,
        sessions: int = 4,
        connect_timeout_s: float = 120.0,
        no_workers_timeout_s: float = 300.0,
        environ: Mapping[str, str] | None = None,
        memo: FileMemo | None = None,
    ) -> None:
        self.name = name
        self._plan = SparkPlan(
            master, conf or {}, python, host, tasks, sessions, connect_timeout_s, no_workers_timeout_s
        )
        self._datastore = datastore
        self._inbox = Inbox()
        self._cluster = Cluster(
            name, self._plan, datastore, scratch.parent, workspace=workspace, environ=environ or {}, inbox=self._inbox
        )
        parcels = Parcels(datastore, memo, [checkout, scratch, workspace])
        self._plain_steps = PlainSteps(self._plan, datastore, parcels, self._cluster, self._tell)
        self._spark_steps = SparkSteps(
            name,
            datastore,
            self._cluster,
            report=self._tell,
            folders={"checkout": checkout, "scratch": scratch},
            workspace=workspace,
            environ=environ or {},
            sessions=sessions,
        )
        self._report: Callable[[TargetEvent], None] = lambda _: None
        self._told_slots = 0
        self._drivers_lost = 0  # since the last attempt that came to its end on an executor
        self._is_open = self._is_ending = False
        self._thread: threading.Thread | None = None

    # --- the port -------------------------------------------------------------------------------------------------

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready; Spark is started, or connected to, when there is something to do."""
        self._report = report
        try:
            pickle.dumps(self._datastore, 5)
        except Exception as error:
            raise TargetError(
                f"target {self.name!r} cannot send its {type(self._datastore).__name__} to executors: {error}"
            ) from error
        self._told_slots = self.capacity().slots
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name=f"target {self.name}", daemon=True)
        self._thread.start()

    def capacity(self) -> Capacity:
        """Return what may be sent at once: what there is room for, and as many again to follow at once."""
        return self._plain_steps.capacity()

    def warm(self, functions: Sequence[FunctionReference], environ: Mapping[str, str]) -> None:  # noqa: ARG002
        """Begin to start Spark."""
        self._inbox.put(None)

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt."""
        if not self._is_open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        self._inbox.put(Submitted(assignment))

    def cancel(self, attempt: AttemptId) -> None:
        """Have an attempt stopped."""
        self._inbox.put(Cancelled(attempt))

    def close(self) -> None:
        """Stop everything, wait until it has stopped, end Spark if it is ours."""
        if not self._is_open:
            return
        self._is_open = False
        self._is_ending = True
        self._inbox.wake()
        assert self._thread is not None
        self._thread.join()
        self._inbox.close()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._is_ending:
            try:
                self._inbox.wait(self._due_in_s(), self._spark_steps.filenos())
                self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may wait for ever
                _log.exception("target %r failed", self.name)
                self._plain_steps.fail_all(FailureKind.WORLD, f"target {self.name!r} failed: {error}")
        self._finish()

    def _due_in_s(self) -> float | None:
        now = time.monotonic()
        due = [self._plain_steps.next_due(), self._spark_steps.next_deadline()]
        if self._plain_steps.are_waiting or self._cluster.is_starting:
            due.append(now + _LOOK_EVERY_S)
        soonest = min(due)
        return None if soonest == math.inf else max(0.0, soonest - now)

    def _turn(self) -> None:
        self._take_all()
        self._spark_steps.poll()
        self._on_trouble(self._cluster.look(time.monotonic()))
        self._on_trouble(self._plain_steps.turn())
        told, capacity = self._told_slots, self.capacity()
        if capacity.slots != told:
            self._told_slots = capacity.slots
            self._report(CapacityChanged(self.name, capacity))

    def _take_all(self) -> None:
        for news in self._inbox.take():
            match news:
                case Submitted(assignment):
                    self._take(assignment)
                case Cancelled(attempt):
                    if not self._spark_steps.cancel(attempt):
                        self._plain_steps.cancel(attempt)
                case Opened(visitor):
                    self._plain_steps.on_opened(visitor)
                case Told(visitor, events, absent):
                    if self._plain_steps.on_told(visitor, events, absent):
                        self._drivers_lost = 0
                case Gone(visitor, why):
                    self._on_trouble(visitor.refused)
                    self._plain_steps.on_gone(visitor, why)
                case Heard(link, said):
                    if self._cluster.is_current(link):
                        self._on_driver(said)
                case None:
                    self._cluster.want()

    def _take(self, assignment: Assignment) -> None:
        if assignment.wants_spark and not self._is_ending:
            self._spark_steps.begin(assignment)
        else:
            self._plain_steps.begin(assignment)

    # --- the driver -----------------------------------------------------------------------------------------------

    def _on_driver(self, said: Mapping[str, Any] | None) -> None:
        if said is None:
            self._on_driver_gone()
        elif "facts" in said:
            self._cluster.take_facts(said["facts"], is_ready="ready" in said)
            self._spark_steps.on_ready()
        elif "failed" in said:
            self._cluster.failed_by(said["failed"])
        elif "job" in said:
            self._on_trouble(self._plain_steps.on_job_ended(said["job"], said["error"]))
        else:
            self._spark_steps.on_said(said)

    def _on_driver_gone(self) -> None:
        """Have another driver do what waits; not where it goes away again and again."""
        self._plain_steps.on_driver_gone()
        was_up = self._cluster.is_up
        why = self._cluster.lost()
        self._drivers_lost += 1
        if was_up and self._drivers_lost < _MOST_LOSSES:
            self._spark_steps.on_trouble(why)
        else:
            self._on_trouble(why)

    def _on_trouble(self, why: str) -> None:
        """Answer for what waits where Spark cannot be used; nothing when *why* is empty."""
        if why:
            self._plain_steps.fail_waiting(why)
            self._spark_steps.on_trouble(why)

    def _tell(self, event: TargetEvent) -> None:
        self._report(event)

    # --- the end --------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._take_all()
        self._plain_steps.dismiss_all()
        self._spark_steps.close()
        patience = time.monotonic() + _ENDS_WITHIN_S
        while self._plain_steps.have_tasks and time.monotonic() < patience:
            self._inbox.wait(0.2, ())
            self._take_all()
        self._plain_steps.cut()
        self._cluster.close()
        self._take_all()
        message = "the target was closed; whether its work on the executors has stopped is not known"
        self._plain_steps.fail_all(FailureKind.CANCELLED, message)
