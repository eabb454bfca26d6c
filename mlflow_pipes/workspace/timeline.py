"""When the steps of a run were where, for its critical path and the waits of its steps; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlflow_pipes.model.run import Status
from mlflow_pipes.scheduling.critical_path import Link, Timed, critical_path
from mlflow_pipes.workspace.waiting import WORTH_TELLING_S, StepTimes

if TYPE_CHECKING:
    from mlflow_pipes.workspace.records import StepRun


def step_times(step: StepRun, attempts: Sequence[tuple[float, float]] = ()) -> StepTimes:
    """Return when a step was where; *attempts* are (start, end) of those that have ended."""
    start = attempts[0][0] if attempts else None if step.started_at is None else step.started_at.timestamp()
    end = None if step.ended_at is None else step.ended_at.timestamp()
    return StepTimes(step.node, step.status, step.parents, step.target, start, end, tuple(attempts))


def path_of(steps: Iterable[StepTimes], begin: float, now: float) -> tuple[Link, ...]:
    """Return the critical path of a run; of one that is under way the path so far, to *now* where a step runs."""
    timed = [
        Timed(
            step.node,
            step.parents,
            "" if step.status is Status.REUSED else step.target,
            step.start,
            now if step.end is None else step.end,
        )
        for step in steps
        if step.start is not None
    ]
    return critical_path(timed, begin, least_wait_s=WORTH_TELLING_S)
