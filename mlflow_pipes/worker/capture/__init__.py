"""What ``mlflow.*`` calls, clients and autologging inside a step log is captured here and harvested afterwards.

::

    capture.begin(step_run_id, "train[max_depth=8]", folder)
    try:
        ...  # the step's code; mlflow.log_metric(...) touches no server
    finally:
        tracked = capture.finish(datastore)

One capture at a time and process. MLflow is not imported here; a step that never imports it pays a few microseconds.
See docs/adr/0003-capture-mlflow-inside-steps.md.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from typing import TYPE_CHECKING

from mlflow_pipes.errors import InternalError
from mlflow_pipes.model.tracked import NOTHING_TRACKED, Tracked
from mlflow_pipes.worker.capture import environment, fluent
from mlflow_pipes.worker.capture.location import Location
from mlflow_pipes.worker.capture.plugin import close_stores

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_pipes.ports import Datastore

__all__ = ["begin", "finish", "prepare"]

_logger = logging.getLogger(__name__)


class _Session:
    """The capture that is going on in this process."""

    __slots__ = ("environ", "kept", "location")

    def __init__(self, location: Location) -> None:
        self.location = location
        self.kept = fluent.set_aside()
        self.environ = environment.enter(location)


_session: _Session | None = None
_serials = itertools.count()


def _capturing() -> Location | None:
    return None if _session is None else _session.location


def prepare() -> None:
    """Be ready before the user's modules are imported, so that ``from mlflow import active_run`` gets the right one.

    ``begin`` does it too; a worker calls this when it starts.
    """
    fluent.adjust(_capturing)


def begin(step_run_id: str, run_name: str, folder: Path) -> None:
    """Send what MLflow logs from now on to the run *step_run_id*, kept below *folder* (made when first used).

    Call it after the step's module is imported and right before the step's function is called: a tracking URI set
    while a module is imported gives way to the capture, one set in the function's body is respected.
    """
    global _session  # noqa: PLW0603 - a process has one MLflow state, so one capture
    if _session is not None:
        raise InternalError(f"capture of run {_session.location.run_id} is still going on in this process")
    prepare()
    if folder.exists():  # left by an attempt that was killed
        shutil.rmtree(folder, ignore_errors=True)
    _session = _Session(Location(step_run_id, run_name, folder, f"{os.getpid()}-{next(_serials)}"))


def finish(datastore: Datastore) -> Tracked:
    """Return all that was logged since ``begin``, its files stored in *datastore*, and clean up; never skipped.

    Raises:
        DatastoreError: the files cannot be stored. MLflow's state is put back all the same.
    """
    global _session
    session, _session = _session, None
    if session is None:
        raise InternalError("no capture is going on in this process")
    try:
        fluent.flush()
    except Exception:
        _logger.warning("MLflow could not write what it logs in the background; some of it may be lost", exc_info=True)
    close_stores()
    environment.leave(session.environ)
    fluent.put_back(session.kept)
    folder = session.location.folder
    if not folder.exists():
        return NOTHING_TRACKED
    from mlflow_pipes.worker.capture.harvest import harvest

    try:
        return harvest(session.location, datastore)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
