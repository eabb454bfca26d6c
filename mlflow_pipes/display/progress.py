"""Where a run stands, told by its records: constant work a record, so that the engine's thread is not slowed.

One thread (the engine's) feeds it, another may read at any moment: every field is replaced as a whole, collections
only grow, and a reader that sees one count moved and another not yet shows it right an eighth of a second later.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlflow_pipes.model.attempt import AttemptStarted, Failure, Progress, TargetEvent, UsageSample
from mlflow_pipes.model.blame import RootCauses, is_inner, told_failure
from mlflow_pipes.model.run import (
    AttemptEnded,
    AttemptSampled,
    Record,
    RunEnded,
    RunStarted,
    Status,
    StepChanged,
    StepDeclared,
    StepTracked,
)

if TYPE_CHECKING:
    from mlflow_pipes.model.artifact import Artifact
    from mlflow_pipes.model.tracked import Tracked

SHOWN_MEMBERS = 40  # of the calls of one step: no view lists more
KEPT_FAILURES = 20
KEPT_METRICS = 200  # steps whose metrics are kept for the summary's table
KEPT_OUTPUTS = 200  # steps whose outputs are searched for service addresses


class StepProgress:
    """One step of the run, as far as is known."""

    __slots__ = (
        "attempt",
        "depth",
        "done",
        "ended_at",
        "failure",
        "kind",
        "line",
        "name",
        "node",
        "note",
        "reason",
        "started_at",
        "status",
        "total",
        "usage",
    )

    def __init__(self, node: str, name: str, kind: str, depth: int) -> None:
        self.node = node
        self.name = name
        self.kind = kind
        self.depth = depth
        self.status = Status.WAITING
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.attempt = 0
        self.done = 0.0
        self.total = 0.0
        self.note = ""
        self.reason = ""
        self.failure: Failure | None = None
        self.usage: UsageSample | None = None
        self.line: NameProgress

    def elapsed_s(self, now: float) -> float:
        """Return how long it has run, 0 before it starts."""
        if self.started_at is None:
            return 0.0
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.started_at)


class NameProgress:
    """All calls of one step: how many there are in each status.

    Attributes:
        members: the first of them, at most ``SHOWN_MEMBERS``.
        children: what runs inside of them: steps of a sub-pipeline, or those that a step returned.
        problem: why the first of them failed.
    """

    __slots__ = (
        "attached",
        "children",
        "counts",
        "depth",
        "kind",
        "members",
        "name",
        "parent",
        "problem",
        "started_at",
        "total",
    )

    def __init__(self, name: str, kind: str, depth: int, parent: NameProgress | None) -> None:
        self.name = name
        self.kind = kind
        self.depth = depth
        self.parent = parent
        self.attached = False
        self.total = 0
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.members: list[StepProgress] = []
        self.children: list[NameProgress] = []
        self.started_at: float | None = None
        self.problem = ""

    def ended(self) -> int:
        """Return how many of them have ended."""
        counts = self.counts
        return sum(counts[status] for status in Status if status.ended)


class RunProgress:
    """A whole run. Feed it with :meth:`record` and :meth:`event`."""

    def __init__(self, expected: int = 0) -> None:
        self.expected = expected
        self.run_id = ""
        self.pipeline = ""
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.status = Status.WAITING
        self.message = ""
        self.declared = 0
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.names: dict[tuple[int, str], NameProgress] = {}
        self.top: list[NameProgress] = []
        self.running: dict[str, StepProgress] = {}
        self.causes: RootCauses[StepProgress] = RootCauses(KEPT_FAILURES)
        self.metrics: dict[str, dict[str, float]] = {}
        self.outputs: dict[str, Artifact] = {}
        self._by_id: dict[str, StepProgress] = {}
        self._by_node: dict[str, StepProgress] = {}

    @property
    def total(self) -> int:
        """Steps of the run, as far as is known."""
        return max(self.declared, self.expected)

    @property
    def failures(self) -> list[StepProgress]:
        """The first failures that are worth telling."""
        return self.causes.first

    @property
    def ended(self) -> int:
        """Steps that have ended."""
        counts = self.counts
        return sum(counts[status] for status in Status if status.ended)

    def elapsed_s(self, now: float) -> float:
        """Return how long the run has taken."""
        if self.started_at is None:
            return 0.0
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.started_at)

    def record(self, record: Record) -> StepProgress | None:
        """Take a record; return the step that has just ended through it, if one has."""
        if isinstance(record, StepChanged):
            return self._changed(record)
        if isinstance(record, StepDeclared):
            self._declared(record)
        elif isinstance(record, AttemptEnded):
            if record.failure is not None and (step := self._by_id.get(record.step_run_id)) is not None:
                step.failure = record.failure
        elif isinstance(record, AttemptSampled):
            if (step := self._by_id.get(record.step_run_id)) is not None:
                step.usage = record.sample
        elif isinstance(record, StepTracked):
            self._tracked(record.step_run_id, record.tracked)
        elif isinstance(record, RunStarted):
            self.run_id, self.pipeline, self.started_at = record.run_id, record.pipeline, record.started_at
            self.status = Status.RUNNING
        elif isinstance(record, RunEnded):
            self.status, self.ended_at, self.message = record.status, record.ended_at, record.message
        return None

    def event(self, event: TargetEvent) -> None:
        """Take an event of a target: a start, or progress."""
        if isinstance(event, Progress):
            step = self._by_node.get(event.attempt.node)
            if step is not None:
                step.done, step.total, step.note = event.done, event.total, event.text
        elif isinstance(event, AttemptStarted):
            step = self._by_node.get(event.attempt.node)
            if step is not None and not step.status.ended:
                step.attempt = event.attempt.number
                step.started_at = event.started_at
                step.done = step.total = 0.0
                step.usage = None
                self._move(step, Status.RUNNING)

    def _declared(self, record: StepDeclared) -> None:
        if record.step_run_id in self._by_id:
            return
        parent = self._by_id.get(record.parent_id)
        step = StepProgress(record.node, record.name, record.kind, 0 if parent is None else parent.depth + 1)
        self._by_id[record.step_run_id] = step
        self._by_node[record.node] = step
        # Children of all calls of one step share a line; the same name in another sub-pipeline has its own.
        line = None if parent is None else parent.line
        key = (id(line), record.name)
        name = self.names.get(key)
        if name is None:
            name = self.names[key] = NameProgress(record.name, record.kind, step.depth, line)
        step.line = name
        if record.kind == "step":
            self._attach(name)
        name.total += 1
        name.counts[Status.WAITING] += 1
        if len(name.members) < SHOWN_MEMBERS:
            name.members.append(step)
        if record.kind == "step":
            self.declared += 1
            self.counts[Status.WAITING] += 1

    def _attach(self, line: NameProgress | None) -> None:
        """Give a line its place. Sub-pipelines are declared before all steps; theirs is where their first step is."""
        while line is not None and not line.attached:
            line.attached = True
            (self.top if line.parent is None else line.parent.children).append(line)
            line = line.parent

    def _changed(self, record: StepChanged) -> StepProgress | None:
        step = self._by_id.get(record.step_run_id)
        if step is None:
            return None
        if record.started_at is not None:
            step.started_at = record.started_at
        elif record.status is Status.RUNNING and step.started_at is None:
            step.started_at = record.at
        if record.attempts is not None:
            step.attempt = record.attempts
        if record.reason is not None:
            step.reason = record.reason
        if record.output is not None and len(self.outputs) < KEPT_OUTPUTS:
            self.outputs[step.node] = record.output
        step.failure = told_failure(record.status, step.failure, step.reason)
        was_ended = step.status.ended
        if record.status.ended:
            step.ended_at = record.at
        self._move(step, record.status)
        if was_ended or not record.status.ended or step.kind != "step":
            return None
        if record.status is Status.FAILED:
            self.causes.take(step.node, step.reason, step)
        return step

    def _move(self, step: StepProgress, status: Status) -> None:
        before = step.status
        if status is before:
            return
        step.status = status
        name = step.line
        name.counts[before] -= 1
        name.counts[status] += 1
        if step.kind != "step":
            return
        self.counts[before] -= 1
        self.counts[status] += 1
        if status is Status.RUNNING:
            self.running[step.node] = step
            if name.started_at is None:
                name.started_at = step.started_at
        elif before is Status.RUNNING:
            self.running.pop(step.node, None)
        if status is Status.FAILED and not name.problem and not is_inner(step.reason):
            name.problem = problem_of(step)

    def metrics_in_order(self) -> dict[str, dict[str, float]]:
        """Return the metrics by node, in the order in which the steps were declared, not in which they ended."""
        return {step.node: self.metrics[step.node] for step in self._by_id.values() if step.node in self.metrics}

    def _tracked(self, step_run_id: str, tracked: Tracked) -> None:
        step = self._by_id.get(step_run_id)
        if step is None or len(self.metrics) >= KEPT_METRICS:
            return
        last = {
            metric.key: metric.number
            for metric in tracked.metrics
            if metric.kind == "number" and metric.number is not None and not math.isnan(metric.number)
        }
        if last:
            self.metrics[step.node] = last


def problem_of(step: StepProgress) -> str:
    """Return in one line why a step did not succeed; empty when nobody said."""
    said = step.failure.message if step.failure is not None else step.reason
    return said.strip().partition("\n")[0]


def why_ended(step: StepProgress) -> str:
    """Return what follows the word for a status: ``: why``, without the word where the reason begins with it."""
    said = problem_of(step)
    word = step.status.value
    return said.removeprefix(word) if said.startswith((f"{word} ", f"{word};")) else f": {said}"
