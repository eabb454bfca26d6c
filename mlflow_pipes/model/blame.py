"""Whose failure it is: a step's own, or that of something that stands in it or around it. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Generic, TypeVar

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.run import Status

T = TypeVar("T")

_INNER = re.compile(r"step (['\"]).*\1 (?:failed|cancelled|skipped)")
_OUTER = re.compile(r"(?:step (?P<step>(['\"]).*\2) took longer|sub-pipeline .* is past its timeout)")


def inner_failure(node: str, status: Status) -> str:
    """Return why a step did not end well whose returned calls did not: the first of them that did not."""
    return f"step {node!r} {status.value}"


def step_out_of_time(node: str, limit_s: float) -> str:
    """Return why a step, and all that it returned, was stopped."""
    return f"step {node!r} took longer than total_timeout_s = {limit_s:g} s"


def group_out_of_time(group: str, limit_s: float) -> str:
    """Return why all steps of a sub-pipeline were stopped."""
    return f"sub-pipeline {group!r} is past its timeout of {limit_s:g} s"


def is_inner(reason: str) -> bool:
    """Tell whether a step failed only because something that it returned did not end well."""
    return _INNER.fullmatch(reason) is not None


def told_failure(status: Status, failure: Failure | None, reason: str) -> Failure | None:
    """Return a step's last failure, as people want to read it: why it was stopped, not that its process was killed."""
    if failure is None or failure.kind is not FailureKind.CANCELLED or not reason:
        return failure
    if status is Status.FAILED:
        return replace(failure, kind=FailureKind.TIMEOUT, message=reason)
    return replace(failure, message=reason) if status is Status.CANCELLED else failure


class RootCauses(Generic[T]):
    """Of the failed steps of a run those that are worth telling, in the order in which they come.

    Left out are steps that failed because of what they returned, and steps that were stopped together with what
    they stand in, where that is told itself.

    Attributes:
        first: the first few.
        count: how many there are.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.first: list[T] = []
        self.count = 0
        self._keep = keep
        self._stopped: dict[str, int] = {}  # for each reason why many were stopped: the place of the one that is told

    def take(self, node: str, reason: str, step: T) -> None:
        """Take a step that failed."""
        if is_inner(reason):
            return
        outer = _OUTER.match(reason)
        if outer is not None:
            place = self._stopped.setdefault(reason, self.count)
            if place < self.count:
                if outer["step"] == repr(node) and place < len(self.first):
                    self.first[place] = step
                return
        self.count += 1
        if self._keep is None or len(self.first) < self._keep:
            self.first.append(step)
