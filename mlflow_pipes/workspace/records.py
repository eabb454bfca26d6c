"""``Run`` and ``StepRun``: what became of a run, read back from the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import NotFoundError, suggest
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import Failure, UsageSample
from mlflow_pipes.model.blame import RootCauses, told_failure
from mlflow_pipes.model.run import AttemptEnded, SourceState, Status
from mlflow_pipes.model.tracked import Tracked

if TYPE_CHECKING:
    from mlflow_pipes.scheduling.critical_path import Link
    from mlflow_pipes.workspace.runs import Runs


@dataclass(frozen=True)
class StepRun:
    """One step's run, or a sub-pipeline's, inside a pipeline's run.

    Attributes:
        id: of the step's run; also its MLflow run's id in a workspace's own store.
        node: id in the graph, such as ``train[max_depth=8]``. name: the step's.
        kind: ``step`` or ``pipeline``.
        parent_id: id of the sub-pipeline's run it stands in, else of the pipeline's run.
        reused_from: id of the step run that computed the output, when this one did not.
        parents: nodes it waited for.
        started_at, ended_at: UTC.
        attempts: how many tries were made; 0 when it was reused or never ran.
        parameters: its plain constants, as short texts. labels: its declared tags.
        reason: one line: why it ran, was skipped, failed.
        effect: declared with ``reuse="never"``; False also for runs of older versions.
        named_by: who named its target, such as ``the step``, or a rule by its place in a run configuration; empty where
            nobody did, and for runs of older versions.
        key: action key; code_digest: of the code fingerprint; inputs: identity of each argument.
    """

    id: str
    run_id: str
    node: str
    name: str
    kind: str
    status: Status
    parent_id: str
    position: int
    parents: tuple[str, ...]
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    target: str
    worker: str
    reused_from: str | None
    reason: str
    key: str
    code_digest: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, str]
    labels: Mapping[str, str]
    artifact: Artifact | None
    effect: bool
    named_by: str
    _runs: Runs = field(repr=False, compare=False)

    @property
    def reused(self) -> bool:
        """Whether the output of an earlier run was taken."""
        return self.status is Status.REUSED

    @cached_property
    def reused_from_run(self) -> str | None:
        """Id of the run that computed the output, for a reused step; None when that run is not known."""
        return self._runs.run_of(self.reused_from) if self.reused_from else None

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None unless both are known."""
        return _seconds(self.started_at, self.ended_at)

    def output(self, wanted: Any = Any) -> Any:
        """Return what the step returned, loaded; as type *wanted* where its codec can (a table as ``pyarrow.Table``).

        Raises:
            NotFoundError: the step has no output, because it did not succeed.
            BlobMissingError: the output was removed by ``gc``; running the pipeline again makes it anew.
        """
        if self.artifact is None or not self.status.good:
            raise NotFoundError(f"step {self.node!r} has no output: it is {self.status}{_because(self.reason)}")
        return self._runs.load(self.artifact, wanted)

    @cached_property
    def tracked(self) -> Tracked:
        """All that the step logged, or that its origin did, for a reused one."""
        return self._runs.history.tracked(self.reused_from or self.id)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The last value of each metric: numbers, texts, lists, tables; figures as their leaf."""
        return {
            metric.key: metric.number if metric.kind == "number" else metric.figure or metric.plain
            for metric in self.tracked.metrics
        }

    @property
    def params(self) -> Mapping[str, str]:
        """Plain constants among the step's arguments, and the parameters it logged."""
        return {**self.parameters, **self.tracked.params}

    @property
    def tags(self) -> Mapping[str, str]:
        """The step's declared tags, and those it set."""
        return {**self.labels, **self.tracked.tags}

    @cached_property
    def history(self) -> tuple[AttemptEnded, ...]:
        """Every ended attempt, in order."""
        return self._runs.attempts(self)

    @cached_property
    def usage(self) -> tuple[UsageSample, ...]:
        """What its attempts used of their machines, in order of time; none for attempts of less than two seconds."""
        return self._runs.samples(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its attempts were warned of, such as calls of steps that it made and did not return."""
        return tuple(warning for attempt in self.history for warning in attempt.warnings)

    @property
    def failure(self) -> Failure | None:
        """Why the last attempt failed; None when it did not."""
        if not self.history or self.status.good:
            return None
        return told_failure(self.status, self.history[-1].failure, self.reason)


@dataclass(frozen=True)
class Run:
    """A pipeline's run.

    Attributes:
        id: 32 hexadecimal digits.
        started_at, ended_at: UTC.
        parameters: of the pipeline call, as short texts.
        source: the project's git state when it started.
        message: why it failed, one line.
        resumed_from: id of the run that it resumes; None when it resumes none.
        first_run_id: id of the first run of that line; its own when it resumes none.
    """

    id: str
    pipeline: str
    experiment: str
    status: Status
    started_at: datetime
    ended_at: datetime | None
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    host: str
    process: str
    user: str
    target: str
    source: SourceState
    file: str
    command: str
    message: str
    cancel_requested: bool
    artifact: Artifact | None
    resumed_from: str | None
    first_run_id: str
    _runs: Runs = field(repr=False, compare=False)

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs."""
        return _seconds(self.started_at, self.ended_at)

    @property
    def children(self) -> tuple[StepRun, ...]:
        """Steps and sub-pipelines, in the order declared. Read once for a run that has ended, else each time."""
        return self._children if self.status.ended else self._runs.children(self)

    @cached_property
    def _children(self) -> tuple[StepRun, ...]:
        return self._runs.children(self)

    @property
    def steps(self) -> tuple[StepRun, ...]:
        """The steps, in the order declared, also those inside sub-pipelines."""
        return tuple(child for child in self.children if child.kind == "step")

    @property
    def groups(self) -> tuple[StepRun, ...]:
        """The sub-pipelines, in the order declared."""
        return tuple(child for child in self.children if child.kind != "step")

    def step(self, name: str) -> StepRun:
        """Return the step of that node id, or of that step name when only one has it.

        Raises:
            NotFoundError: there is none, or several; suggests what to write.
        """
        return self._found(name, self.steps)

    def cancel(self, step: str | None = None, *, reason: str = "") -> Run:
        """Ask the run's orchestrator, in whatever process, to stop the run or one part of it; it does within a second.

        Nothing happens to what has ended.

        Args:
            step: node id or name of a step or sub-pipeline: it is stopped with all that is in it, what needs its output
                is skipped, and the others go on. None for the whole run.
            reason: why, for those who look at the run.

        Raises:
            NotFoundError: there is no such step, or several; suggests what to write.
        """
        return self._runs.cancel(self.id, step, reason=reason)

    def part(self, name: str) -> StepRun:
        """Return the step or sub-pipeline of that node id, or of that name when only one has it; else as :meth:`step`.

        Raises:
            NotFoundError: there is none, or several; suggests what to write.
        """
        return self._found(name, self.children)

    def _found(self, name: str, steps: tuple[StepRun, ...]) -> StepRun:
        for step in steps:
            if step.node == name:
                return step
        named = [step for step in steps if step.name == name]
        if len(named) == 1:
            return named[0]
        if named:
            listed = ", ".join(repr(step.node) for step in named[:5]) + (" ..." if len(named) > 5 else "")
            raise NotFoundError(f"run {self.id[:8]} has {len(named)} steps {name!r}; say which: {listed}")
        known = [step.node for step in steps]
        near = suggest(name, known) or suggest(name, [step.name for step in steps])
        raise NotFoundError(f"run {self.id[:8]} of {self.pipeline} has no step {name!r}{near}")

    def output(self, wanted: Any = Any) -> Any:
        """Return what the pipeline function returned, loaded; None when it returned nothing.

        Raises:
            NotFoundError: the run has no output, because it did not succeed.
            BlobMissingError: the output was removed by ``gc``; running the pipeline again makes it anew.
        """
        if not self.status.good:
            raise NotFoundError(f"run {self.id[:8]} of {self.pipeline} has no output: it is {self.status}")
        return None if self.artifact is None else self._runs.load(self.artifact, wanted)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last number of each metric of every step, as ``node/key``."""
        return self._runs.rolled_up(self)

    @property
    def critical_path(self) -> tuple[Link, ...]:
        """The chain of steps and waits that made the run as long as it is, first to last; of a running one so far.

        Times are seconds since the epoch. What a step waited for is derived from when the others ran.
        """
        return self._runs.critical_path(self)

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What the attempts of its steps were warned of: node and text, each once."""
        return tuple(dict.fromkeys(self._runs.history.warnings(self.id)))

    @property
    def root_causes(self) -> tuple[StepRun, ...]:
        """The steps whose failures are worth telling: not those that failed because of what they returned."""
        causes: RootCauses[StepRun] = RootCauses()
        for step in self.steps:
            if step.status is Status.FAILED:
                causes.take(step.node, step.reason, step)
        return tuple(causes.first)

    def failure_text(self) -> str:
        """Return what went wrong, for a person: the user's own frames first; at most three steps in full."""
        head = f"{self.pipeline} {_VERBS.get(self.status, self.status)} (run {self.id[:8]})"
        causes = self.root_causes
        parts = [head + (f": {self.message}" if self.message and not causes else "")]
        for step in causes[:3]:
            failure = step.failure
            what = failure.message if failure else step.reason
            parts.append(f"step {step.node!r} failed: {what}")
            if failure is not None and failure.traceback:
                parts.append(failure.traceback.rstrip())
        if len(causes) > 3:
            parts.append(f"... and {len(causes) - 3} more failed steps")
        return "\n\n".join(parts)


_VERBS = {
    Status.FAILED: "failed",
    Status.CANCELLED: "was cancelled",
    Status.INTERRUPTED: "was interrupted",
    Status.RUNNING: "is still running",
    Status.SUCCEEDED: "succeeded",
}


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start is not None and end is not None else None


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
