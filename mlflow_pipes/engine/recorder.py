"""What a run tells the ledger, its log and its observers, gathered so that many transitions share one transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mlflow_pipes import content
from mlflow_pipes.engine.effects import is_effect
from mlflow_pipes.engine.observers import Observers
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, LogLine, Progress, UsageSample
from mlflow_pipes.model.graph import Constant, GroupNode, StepNode, Stored
from mlflow_pipes.model.run import (
    Answer,
    AttemptEnded,
    AttemptSampled,
    CodeSeen,
    EntryForgotten,
    KeyReleased,
    OutputCached,
    Question,
    Record,
    Status,
    StepChanged,
    StepDeclared,
    StepTracked,
)
from mlflow_pipes.ports import Ledger
from mlflow_pipes.wording import clipped, short_text
from mlflow_pipes.worker.secrets import mask_of_process

COMMIT_WITHIN_S = 0.02
"""Records wait at most this long, so that kill -9 loses at most that much finished work."""


PROGRESS_EVERY_S = 1.0
"""A step's progress stands in the log at most so often; what came in between is told with the next heartbeat."""

_KEYED = (OutputCached, KeyReleased, EntryForgotten)
"""Records that change what a look-up answers."""


@dataclass(slots=True)
class NodeFacts:
    """What is known of a node while it is under way."""

    key: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Artifact] = field(default_factory=dict)
    token: int = 0
    reused_from: str | None = None
    note: str = ""
    last: AttemptSucceeded | AttemptFailed | None = None


class RunLog(Protocol):
    """Where the lines that steps print are kept."""

    def append(self, line: LogLine) -> None:
        """Take a line; it may be held until ``flush``."""
        ...

    def flush(self) -> None:
        """Write what was taken."""
        ...


class Recorder:
    """Builds the records of one run and holds them until they are committed together.

    Args:
        run_id: of the run.
        pipeline: its pipeline's name.
        step_run_ids: id of each node's and each group's run.
        named_by: who named a node's target, where somebody did.
        ledger: takes the records and answers look-ups.
        log: keeps what steps print.
        observers: are told after the ledger; also an attribute.
    """

    def __init__(
        self,
        run_id: str,
        pipeline: str,
        step_run_ids: Mapping[str, str],
        named_by: Mapping[str, str],
        ledger: Ledger,
        log: RunLog | None,
        observers: Observers,
    ) -> None:
        self._run_id = run_id
        self._pipeline = pipeline
        self._nodes: dict[str, StepNode] = {}
        self._seen_code: set[str] = set()
        self._position = 0
        self._ids = step_run_ids
        self._named_by = named_by
        self._ledger = ledger
        self._log = log
        self.observers = observers
        self._records: list[Record] = []
        self._keyed: list[Record] = []
        self._oldest: float | None = None
        self._mask = mask_of_process()
        self._progress_at: dict[str, float] = {}
        self._late_progress: dict[str, Progress] = {}

    def add(self, record: Record, now: float) -> None:
        """Hold a record until the next commit."""
        (self._keyed if isinstance(record, _KEYED) else self._records).append(record)
        if self._oldest is None:
            self._oldest = now

    def due(self) -> float | None:
        """Return when what is held must be committed, None when there is nothing."""
        return None if self._oldest is None else self._oldest + COMMIT_WITHIN_S

    def exchange(self, questions: Sequence[Question], now: float) -> list[Answer]:
        """Commit all records held, and have *questions* answered in the same transaction."""
        records = [*self._keyed, *self._records]
        self._records, self._keyed, self._oldest = [], [], None
        answers = self._ledger.exchange(records, questions, now)
        if self._log is not None:
            self._log.flush()
        if records:
            self.observers.recorded(records)
        return answers

    def ask(self, questions: Sequence[Question], now: float) -> list[Answer]:
        """Have look-ups answered, after what is held of keys; history may wait until it is due.

        So a chain is committed every 20 ms as everything else, and one of reused steps only reads.
        """
        due = self.due()
        if due is None or not now < due:
            return self.exchange(questions, now)
        keyed, self._keyed = self._keyed, []
        answers = self._ledger.exchange(keyed, questions, now)
        if keyed:
            self.observers.recorded(keyed)
        return answers

    def line(self, line: LogLine, now: float) -> None:
        """Hold a line of a step's output until the next commit; observers see it at once."""
        if self._log is not None:
            self._log.append(line)
        if self._oldest is None:
            self._oldest = now
        self.observers.seen(line)

    def progress(self, event: Progress, now: float) -> None:
        """Show observers how far a step is; from time to time the log is told, for those who look from elsewhere."""
        self.observers.seen(event)
        since = now - self._progress_at.get(event.attempt.node, -math.inf)
        if 0 <= since < PROGRESS_EVERY_S:
            self._late_progress[event.attempt.node] = event
        else:
            self._log_progress(event, now)

    def late_progress(self, now: float) -> None:
        """Tell the log of progress that it was not told of because another was just before."""
        for event in list(self._late_progress.values()):
            self._log_progress(event, now)

    def _log_progress(self, event: Progress, now: float) -> None:
        self._late_progress.pop(event.attempt.node, None)
        if self._log is None:
            return
        self._progress_at[event.attempt.node] = now
        text = f"{event.done:g} of {event.total:g} {event.text}".rstrip()
        self._log.append(LogLine(event.attempt, "progress", text, now))
        if self._oldest is None:
            self._oldest = now

    def sampled(self, sample: UsageSample, now: float) -> None:
        """Record what an attempt uses of its machine."""
        self.add(AttemptSampled(self._run_id, self._ids[sample.attempt.node], sample), now)

    def declare(self, groups: Mapping[str, GroupNode], nodes: Mapping[str, StepNode], now: float) -> None:
        """Record groups, nodes and the code fingerprints of their steps: the graph's, or what a step returned."""
        self._nodes.update(nodes)
        for group in groups.values():
            parameters = {name: self._mask(short_text(value)) for name, value in group.parameters.items()}
            self._declare(group.id, group.name, "pipeline", group.group, parameters, {}, (), now, effect=False)
        for node in nodes.values():
            if node.step.code.digest not in self._seen_code:
                self._seen_code.add(node.step.code.digest)
                self.add(CodeSeen(node.step.code), now)
            parents = tuple(sorted(node.parents))
            tags, effect = node.options.tags, is_effect(node)
            parameters = self._parameters(node)
            self._declare(node.id, node.step.name, "step", node.group, parameters, tags, parents, now, effect=effect)

    def _declare(
        self,
        node: str,
        name: str,
        kind: str,
        group: str | None,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        parents: tuple[str, ...],
        now: float,
        *,
        effect: bool,
    ) -> None:
        parent_id = self._run_id if group is None else self._ids[group]
        position, self._position = self._position, self._position + 1
        self.add(
            StepDeclared(
                self._run_id,
                self._ids[node],
                node,
                name,
                kind,
                parent_id,
                parameters,
                tags,
                parents,
                position,
                effect,
                self._named_by.get(node, ""),
            ),
            now,
        )

    def _parameters(self, node: StepNode) -> dict[str, str]:
        """Return the constants among a node's arguments as short texts, without secrets."""
        texts = {}
        for name, binding in node.arguments.items():
            if isinstance(binding, Constant):
                texts[name] = self._mask(short_text(binding.value))
            elif isinstance(binding, Stored):
                texts[name] = self._mask(clipped(content.describe(binding.artifact), 250))
        return texts

    def changed(
        self,
        node: str,
        status: Status,
        reason: str,
        now: float,
        *,
        facts: NodeFacts | None = None,
        output: Artifact | None = None,
        target: str | None = None,
        attempts: int | None = None,
    ) -> None:
        """Record a node's or a group's new status with all that is known by now."""
        last = facts.last if facts else None
        known = facts is not None and bool(facts.key)
        step = self._nodes.get(node)
        self.add(
            StepChanged(
                run_id=self._run_id,
                step_run_id=self._ids[node],
                status=status,
                at=now,
                key=facts.key if facts is not None and known else None,
                code=step.step.code.digest if step is not None and known else None,
                inputs=facts.inputs if facts is not None and known else None,
                output=output,
                reused_from=facts.reused_from if facts else None,
                reason=reason or None,
                target=target,
                worker=last.worker if last else None,
                started_at=last.started_at if last else None,
                attempts=attempts,
            ),
            now,
        )

    def attempt_ended(self, event: AttemptSucceeded | AttemptFailed, target: str, now: float) -> None:
        """Record the end of one attempt."""
        late = self._late_progress.get(event.attempt.node)
        if late is not None:
            self._log_progress(late, now)
        effect = is_effect(self._nodes[event.attempt.node])
        self.add(
            AttemptEnded(
                run_id=self._run_id,
                step_run_id=self._ids[event.attempt.node],
                number=event.attempt.number,
                started_at=event.started_at,
                ended_at=event.ended_at,
                target=target,
                worker=event.worker,
                host=event.host,
                failure=event.failure if isinstance(event, AttemptFailed) else None,
                usage=event.usage,
                warnings=event.warnings,
                output=event.output if isinstance(event, AttemptSucceeded) and effect else None,
            ),
            now,
        )
        for warning in event.warnings:
            self.line(LogLine(event.attempt, "pipes", f"warning: {warning}", event.ended_at), now)
        if event.tracked:
            self.add(StepTracked(self._run_id, self._ids[event.attempt.node], event.tracked), now)

    def output_cached(self, node: StepNode, event: AttemptSucceeded, facts: NodeFacts, now: float) -> None:
        """Record the output under its key; comes before the node's success."""
        self.add(
            OutputCached(
                key=facts.key,
                output=event.output,
                step_run_id=self._ids[node.id],
                pipeline=self._pipeline,
                node=node.id,
                made_at=event.ended_at,
                duration_s=event.ended_at - event.started_at,
                token=facts.token,
                reuse=node.step.reuse == "content",
            ),
            now,
        )
