"""What workers say, as events for the engine: labelled, and with secrets masked."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    FailureKind,
    LogLine,
    Progress,
    Usage,
)
from mlflow_pipes.model.tracked import NOTHING_TRACKED
from mlflow_pipes.targets.local import wire
from mlflow_pipes.worker.secrets import PREFIX, Mask, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_pipes.model.attempt import Assignment, TargetEvent, UsageSample
    from mlflow_pipes.targets.local.worker_link import Output, WorkerLink


class Reporter:
    """Turns what is known of a worker into events.

    Args:
        name: the target's name.
        environ: environment variables of all workers, over this process's own.
        report: takes the events.
    """

    def __init__(self, name: str, environ: Mapping[str, str], report: Callable[[TargetEvent], None]) -> None:
        self._name = name
        self._environ = environ
        self._report = report
        self._host = socket.gethostname()
        self._mask = Mask(values(os.environ, environ))
        self._latest: tuple[Mapping[str, str], Mask] = ({}, self._mask)

    def started(self, link: WorkerLink, assignment: Assignment) -> None:
        """Tell that a worker has begun."""
        self._report(AttemptStarted(assignment.attempt, link.started_at, self._label(link), self._host))

    def lines(self, link: WorkerLink, output: Output, lines: list[str]) -> None:
        """Tell what a worker has written."""
        assignment = link.assignment
        if assignment is None:  # written while it starts, or by a thread that an attempt left behind
            link.last_errors.extend(self._mask(line) for line in lines)
            return
        mask = self._mask_for(assignment)
        now = time.time()
        for line in lines:
            text = mask(line)
            if output.name == "stderr":
                link.last_errors.append(text)
            self._report(LogLine(assignment.attempt, output.name, text, now))

    def said(self, assignment: Assignment, message: wire.Line | wire.Moved) -> None:
        """Tell a line of ``logging``, or progress."""
        if isinstance(message, wire.Line):
            text = self._mask_for(assignment)(message.text)
            self._report(LogLine(assignment.attempt, "logging", text, message.at))
        else:
            self._report(Progress(assignment.attempt, message.done, message.total, message.text))

    def sampled(self, sample: UsageSample | None) -> None:
        """Tell what an attempt uses."""
        if sample is not None:
            self._report(sample)

    def note(self, assignment: Assignment, text: str) -> None:
        """Tell something of our own about an attempt, among its output."""
        self._report(LogLine(assignment.attempt, "pipes", text, time.time()))

    def ended(self, link: WorkerLink, assignment: Assignment, ended: wire.Ended) -> None:
        """Tell how an attempt ended, by its worker's own words."""
        common: dict[str, Any] = {
            "started_at": ended.started_at,
            "ended_at": ended.ended_at,
            "worker": self._label(link),
            "host": self._host,
            "tracked": NOTHING_TRACKED if ended.tracked is None else ended.tracked,
            "usage": Usage(ended.cpu_s, ended.peak_memory_bytes),
            "warnings": ended.warnings,
        }
        if ended.failure is not None:
            self._report(AttemptFailed(assignment.attempt, ended.failure, **common))
        else:
            assert ended.output is not None
            self._report(AttemptSucceeded(assignment.attempt, ended.output, **common))

    def failed(self, assignment: Assignment, failure: Failure, link: WorkerLink | None = None) -> None:
        """Tell that an attempt failed without a word of its worker."""
        now = time.time()
        started_at = now if link is None else link.started_at
        label = "" if link is None else self._label(link)
        self._report(AttemptFailed(assignment.attempt, failure, started_at, now, label, self._host))

    def died(self, link: WorkerLink, assignment: Assignment) -> None:
        """Tell that an attempt failed because its worker is dead."""
        self.failed(assignment, death_of(link), link)

    def _label(self, link: WorkerLink) -> str:
        return f"{self._name}/{link.pid}"

    def _mask_for(self, assignment: Assignment) -> Mask:
        environ, mask = self._latest
        if environ is not assignment.environ:  # all attempts of a run share one mapping, so this is rare
            has_own = any(name.startswith(PREFIX) for name in assignment.environ)
            mask = Mask(values(os.environ, self._environ, assignment.environ)) if has_own else self._mask
            self._latest = (assignment.environ, mask)
        return mask


def death_of(link: WorkerLink) -> Failure:
    """Return why a dead worker's attempt failed; with the last lines it wrote to stderr when nobody killed it."""
    if link.verdict is not None:
        return Failure(*link.verdict)
    message = link.how_ended
    if "SIGKILL" in message:
        message += "; if nobody killed it, the machine was out of memory: run fewer at once or say memory_bytes"
    return Failure(FailureKind.LOST, message, traceback="\n".join(link.last_errors))
