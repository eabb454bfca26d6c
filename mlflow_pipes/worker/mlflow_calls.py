"""Keeping what a step logs with ``mlflow.*``, without cost for steps that never import mlflow."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.tracked import NOTHING_TRACKED, Tracked
from mlflow_pipes.worker.context import last_part

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_pipes.model.attempt import Assignment
    from mlflow_pipes.ports import Datastore


class MlflowCalls:
    """What one call of a step's function logs with ``mlflow.*``.

    The capture begins at once when mlflow is loaded or the step's code is known to reach it; else at the moment when
    something, such as a third-party package, imports mlflow. (Measured: a capture costs 0.15 ms, this 1 µs.)
    """

    __slots__ = ("_assignment", "_folder", "begun")

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        self._assignment = assignment
        self._folder = folder
        self.begun = False

    def begin(self) -> None:
        """Keep what is logged from now on."""
        if self._assignment.tracks_mlflow or "mlflow" in sys.modules:
            self.capture()
        else:
            _watch.waiting = self
            if _watch not in sys.meta_path:
                sys.meta_path.insert(0, _watch)

    def capture(self) -> None:
        """Begin the capture itself."""
        from mlflow_pipes.worker import capture

        capture.begin(self._assignment.step_run_id, last_part(self._assignment.attempt.node), self._folder / "mlflow")
        self.begun = True

    def finish(self, datastore: Datastore) -> Tracked:
        """Return what was logged."""
        _watch.waiting = None
        if not self.begun:
            return NOTHING_TRACKED
        from mlflow_pipes.worker import capture

        return capture.finish(datastore)


class _ImportWatch(MetaPathFinder):
    """Begins the waiting call's capture when mlflow is first imported; finds no module itself."""

    waiting: MlflowCalls | None = None

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:  # noqa: ARG002 - the interface of a finder
        if fullname == "mlflow":
            sys.meta_path.remove(self)
            if self.waiting is not None:
                self.waiting.capture()


_watch = _ImportWatch()
