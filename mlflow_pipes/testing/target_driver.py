"""Drives a compute target as the engine does, for tests: waits, polls, keeps what was reported."""

from __future__ import annotations

import contextlib
import itertools
import select
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow_pipes import content
from mlflow_pipes.digests import digest_bytes, digest_record
from mlflow_pipes.model.attempt import (
    Assignment,
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    LogLine,
    TargetEvent,
)
from mlflow_pipes.model.step import FunctionReference, ImportedFunction
from mlflow_pipes.ports import ComputeTarget, Datastore, Polled

PATIENCE_S = 60.0  # mostly it takes moments; machines may be busy
_numbers = itertools.count(1)


def imported(file: Path, qualname: str) -> ImportedFunction:
    """Return the reference of a function in a module file, as the fingerprint makes it."""
    sources = ((str(file), digest_bytes(file.read_bytes()).hash),)
    return ImportedFunction(file.stem, qualname, str(file), str(file.parent), sources)


def assignment_of(
    function: FunctionReference, datastore: Datastore, arguments: Mapping[str, Any], **fields: Any
) -> Assignment:
    """Return an assignment with its own node; *fields* are further ones of :class:`Assignment`."""
    node = f"{function.qualname}[{next(_numbers)}]"
    artifacts = {name: content.store(value, datastore, name=name) for name, value in arguments.items()}
    step_run_id = digest_record("pipes.test/1", (node,))[:32]
    return Assignment(
        AttemptId("0" * 32, node, 1), "contract", function, artifacts, **{"step_run_id": step_run_id, **fields}
    )


class TargetDriver:
    """A target with the loop around it.

    Attributes:
        events: all that was reported, in order.
    """

    def __init__(self, target: ComputeTarget) -> None:
        self.target = target
        self.events: list[TargetEvent] = []
        self._changed = threading.Condition()

    def report(self, event: TargetEvent) -> None:
        """Take an event, from any thread."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def answers(self, attempt: AttemptId | None = None) -> list[AttemptSucceeded | AttemptFailed]:
        """Return the answers so far, of one attempt or of all."""
        return [
            event
            for event in list(self.events)
            if isinstance(event, AttemptSucceeded | AttemptFailed) and attempt in {None, event.attempt}
        ]

    def lines(self, attempt: AttemptId, stream: str) -> list[str]:
        """Return the lines of one stream of an attempt."""
        of_attempt = [event for event in self.events if isinstance(event, LogLine) and event.attempt == attempt]
        return [line.text for line in of_attempt if line.stream == stream]

    def started(self, attempt: AttemptId) -> bool:
        """Return whether the attempt was reported as started."""
        return any(isinstance(event, AttemptStarted) and event.attempt == attempt for event in self.events)

    def run(self, assignment: Assignment, within_s: float = PATIENCE_S) -> AttemptSucceeded | AttemptFailed:
        """Submit one attempt and return its answer."""
        self.target.submit(assignment)
        return self.answer(assignment.attempt, within_s)

    def answer(self, attempt: AttemptId, within_s: float = PATIENCE_S) -> AttemptSucceeded | AttemptFailed:
        """Wait for an attempt's answer."""
        self.until(lambda: bool(self.answers(attempt)), within_s)
        return self.answers(attempt)[0]

    def until(self, reached: Any, within_s: float = PATIENCE_S) -> None:
        """Turn the loop until ``reached()``.

        Raises:
            TimeoutError: it did not come true in time.
        """
        end = time.monotonic() + within_s
        while not reached():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing after {within_s} s; so far: {self.events[-20:]}")
            self.turn(min(left, 0.1))

    def turn(self, at_most_s: float) -> None:
        """Wait for something to happen and let the target report it."""
        target = self.target
        if not isinstance(target, Polled):
            with self._changed:
                self._changed.wait(at_most_s)
            return
        deadline = target.next_deadline()
        if deadline is not None:
            at_most_s = max(0.0, min(at_most_s, deadline - time.monotonic()))
        select.select(list(target.filenos()), [], [], at_most_s)
        target.poll()


@contextlib.contextmanager
def driving(target: ComputeTarget) -> Iterator[TargetDriver]:
    """Start a target, and close it at the end."""
    driver = TargetDriver(target)
    target.start(driver.report)
    try:
        yield driver
    finally:
        target.close()
