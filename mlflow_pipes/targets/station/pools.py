"""Pools of worker processes, one for each snapshot of code: two versions of a module never meet in one process."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, LogLine
from mlflow_pipes.targets.local.target import LocalTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_pipes.model.attempt import Assignment, TargetEvent
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.snapshot.unpacking import Unpacked
    from mlflow_pipes.targets.station.messages import Setup, Work


class Pool:
    """The worker processes that have one snapshot's code.

    Attributes:
        target: where they are.
        running: how many of its attempts are not answered.
        idle_since: when (``time.monotonic``) the last one was.
    """

    def __init__(
        self,
        unpacked: Unpacked,
        setup: Setup,
        datastore: Datastore,
        folder: Path,
        *,
        slots: int,
        gpus: int,
        report: Callable[[Pool, TargetEvent], None],
    ) -> None:
        self.running = 0
        self.idle_since = time.monotonic()
        self._unpacked = unpacked
        self._functions: dict[bytes, FunctionReference] = {}
        self.target = LocalTarget(
            setup.name,
            datastore,
            workers=slots,
            gpus=gpus,
            checkout=folder / "checkout",
            scratch=folder / "scratch",
            workspace=setup.workspace,
            environ=setup.environ,
            cwd=unpacked.cwd or str(folder),
            path=unpacked.path,
        )
        self.target.start(lambda event: report(self, event))

    def begin(self, work: Work, gpus: tuple[int, ...]) -> None:
        """Have an attempt done. Raises ``TargetError`` when that is not possible."""
        self.running += 1
        self.target.submit(self._assignment(work, gpus))

    def told(self, event: TargetEvent) -> TargetEvent:
        """Return an event with the paths that the user knows."""
        told = self._unpacked.told
        match event:
            case LogLine():
                text = told(event.text)
                return event if text is event.text else replace(event, text=text)
            case AttemptFailed():
                failure = event.failure
                moved = replace(failure, message=told(failure.message), traceback=told(failure.traceback))
                return replace(event, failure=moved, warnings=tuple(map(told, event.warnings)))
            case AttemptSucceeded() if event.warnings:
                return replace(event, warnings=tuple(map(told, event.warnings)))
        return event

    def ended(self) -> None:
        """Note that an attempt was answered."""
        self.running -= 1
        self.idle_since = time.monotonic()

    def _assignment(self, work: Work, gpus: tuple[int, ...]) -> Assignment:
        changes: dict[str, Any] = {"function": self._function(work.function), "gpus": gpus}
        if work.retry_when is not None:
            changes["retry_when"] = self._function(work.retry_when)
        return replace(work.assignment, **changes)

    def _function(self, packed: bytes) -> FunctionReference:
        found = self._functions.get(packed)
        if found is None:
            found = self._functions[packed] = self._unpacked.moved(pickle.loads(packed))
        return found
