"""A Dask cluster that outlives runs: a process of its own, recorded in the workspace and found again by later runs."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.errors import TargetError, WorldError
from mlflow_pipes.machine import daemons
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.machine.processes import this_host
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.targets.dask.addresses import refusal
from mlflow_pipes.targets.dask.plan import ClusterPlan
from mlflow_pipes.targets.dask.target import DaskTarget
from mlflow_pipes.worker.secrets import PREFIX

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

PLAN, PROCESS, RECORD, FAILURE, LOG = "plan", "process.json", "cluster.json", "failure.txt", "log.txt"
"""Files in the folder of a cluster: what to make; whose it is; where it is, once it is; why it is not; what it says."""

_STARTS_WITHIN_S = 120.0
_ENDS_WITHIN_S = 20.0
_ANSWERS_WITHIN_S = 3.0
_LOOK_EVERY_S = 0.05
_LOG_TAIL_LINES = 20
_OUTDATED = "was configured otherwise when it was turned on: turn it off and on again (pipes compute stop %s)"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """A cluster that was turned on.

    Attributes:
        pid, process, host: of the process that has it.
        address: of its scheduler.
    """

    pid: int
    process: str
    host: str
    address: str

    def write(self, folder: Path) -> None:
        """Tell that it is there."""
        write_whole(folder / RECORD, json.dumps(asdict(self)))


def read_record(folder: Path) -> ClusterRecord | None:
    """Return what is recorded in a cluster's folder; None for nothing."""
    try:
        return ClusterRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class ManagedCluster:
    """A cluster with a process of its own on the machine where it was turned on.

    Args:
        name: of the target.
        plan: what to make.
        folder: where it is recorded; of this cluster alone.
    """

    def __init__(self, name: str, plan: ClusterPlan, folder: Path) -> None:
        self._name = name
        self._plan = plan
        self._folder = folder

    def address(self) -> str | None:
        """Return where its scheduler is; None when it is off, or not there any more."""
        record = read_record(self._folder)
        if record is None:
            return None
        there = (
            not refusal(record.address, _ANSWERS_WITHIN_S)
            if _is_elsewhere(record)
            else daemons.alive(record.pid, record.process)
        )
        return record.address if there else None

    @property
    def has_died(self) -> bool:
        """Whether it was turned on, nobody turned it off, and it is not there."""
        return read_record(self._folder) is not None and self.address() is None

    @property
    def is_outdated(self) -> bool:
        """Whether it is configured otherwise than when it was turned on."""
        try:
            return bool(pickle.loads((self._folder / PLAN).read_bytes()) != self._plan)
        except Exception:  # noqa: BLE001 - another version wrote it
            return True

    def start(self) -> None:
        """Have it made, and wait until it is; nothing when it is there.

        Raises:
            TargetError: it cannot be made, or is there otherwise than it is configured now.
        """
        with self._alone("starting"):
            if self.address() is not None:
                if self.is_outdated:
                    raise TargetError(f"the cluster of target {self._name!r} is on, and {_OUTDATED % self._name}")
                return
            self._clear()
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / PLAN).write_bytes(pickle.dumps(self._plan, 5))
            environ = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
            try:
                pid = daemons.spawn(
                    f"{__package__}.cluster_main",
                    [str(self._folder)],
                    log=self._folder / LOG,
                    environ=environ,
                    folder=self._folder,
                )
                self._wait_until_there(pid)
            except BaseException:
                self._end_process()
                raise

    def stop(self) -> None:
        """End it with all that runs there, and wait until it is gone; nothing when it is off.

        Raises:
            TargetError: it was turned on by another machine.
        """
        with self._alone("stopping"):
            record = read_record(self._folder)
            if record is not None and _is_elsewhere(record) and self.address() is not None:
                raise TargetError(
                    f"the cluster of target {self._name!r} was turned on by {record.host}: turn it off there"
                )
            self._clear()

    def _wait_until_there(self, pid: int) -> None:
        process = _json(self._folder / PROCESS).get("process", "")
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while read_record(self._folder) is None:
            if not daemons.alive(pid, process):
                raise self._not_started("its process ended")
            if time.monotonic() > deadline:
                raise self._not_started(f"it was not there within {_STARTS_WITHIN_S:g} s")
            time.sleep(_LOOK_EVERY_S)

    def _not_started(self, why: str) -> TargetError:
        told = self._folder / FAILURE
        if told.is_file():
            return TargetError(f"target {self._name!r}: {told.read_text(encoding='utf-8')}")
        log = self._folder / LOG
        said = (
            log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:] if log.is_file() else []
        )
        return TargetError("\n  ".join([f"the cluster of target {self._name!r} did not start: {why}", *said]))

    def _clear(self) -> None:
        """End a process that is there, whole or half, and forget it."""
        self._end_process()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_process(self) -> None:
        left = _json(self._folder / PROCESS)
        if left:
            try:
                daemons.terminate(int(left["pid"]), str(left["process"]), timeout_s=_ENDS_WITHIN_S)
            except WorldError as error:
                raise TargetError(f"the cluster of target {self._name!r} does not end: {error}") from error

    def _alone(self, what: str) -> Any:
        lock = self._folder.with_name(f".{self._folder.name}.lock")
        what = f"{what} the cluster of target {self._name!r}"
        return exclusive(lock, what=what, timeout_s=_STARTS_WITHIN_S + _ENDS_WITHIN_S)


class ManagedDaskTarget(DaskTarget):
    """A Dask cluster that is made here: for each run, or, when it was turned on, for all until it is turned off.

    Arguments as of :class:`DaskTarget`.
    """

    def __init__(self, name: str, datastore: Datastore, *, scratch: Path, **options: Any) -> None:
        super().__init__(name, datastore, scratch=scratch, **options)
        key = digest_record("pipes.dask-cluster/1", (name,))[:16]  # names of targets may be no names of folders
        self._cluster = ManagedCluster(name, self._plan, scratch.absolute().parent / "clusters" / key)

    def turn_on(self) -> None:
        """Make the cluster, for all runs until it is turned off."""
        self._cluster.start()

    def turn_off(self) -> None:
        """End the cluster that was turned on, whatever runs there."""
        self._cluster.stop()

    def is_on(self) -> bool:
        """Tell whether the cluster is there without a run."""
        return self._cluster.address() is not None

    def _scheduler(self) -> ClusterPlan:
        address = self._cluster.address()
        if address is not None:
            if self._cluster.is_outdated:
                _log.warning("the cluster of target %r " + _OUTDATED, self.name, self.name)
            return ClusterPlan(address, self._plan.security, connect_timeout_s=self._plan.connect_timeout_s)
        if self._cluster.has_died:
            _log.warning(
                "the cluster of target %r was turned on, and is not there any more: one is made for this run "
                "(to have it again: pipes compute start %s)",
                self.name,
                self.name,
            )
        return self._plan


def _is_elsewhere(record: ClusterRecord) -> bool:
    return record.host != this_host()


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
