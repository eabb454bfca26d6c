"""``workspace.runs``: the runs of a workspace, listed, found, cancelled, and compared."""

from __future__ import annotations

import builtins
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import NotFoundError, suggest
from mlflow_pipes.model.artifact import Artifact, from_json
from mlflow_pipes.model.run import AttemptEnded, SourceState, Status
from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.explain import Ingredients
from mlflow_pipes.workspace.records import Run, StepRun

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import UsageSample
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.scheduling.critical_path import Link
    from mlflow_pipes.workspace.ledger.history import History
    from mlflow_pipes.workspace.ledger.ledger import SqlLedger
    from mlflow_pipes.workspace.ledger.timings import Timings

__all__ = ["LastSuccess", "Run", "Runs", "StepRun"]


@dataclass(frozen=True, slots=True)
class LastSuccess:
    """When a node last ended well: where, and what its key was made of."""

    run_id: str
    step_run_id: str
    code_digest: str
    inputs: Mapping[str, str]


class Runs:
    """The runs of one workspace. Runs whose orchestrator died are marked interrupted whenever somebody looks.

    Attributes:
        history: rows behind the records.
        timings: when steps ran, and how long they took.
    """

    def __init__(
        self, ledger: SqlLedger, datastore: Datastore, checkout: Path, now: Callable[[], float] = time.time
    ) -> None:
        from mlflow_pipes.workspace.ledger.history import History
        from mlflow_pipes.workspace.ledger.timings import Timings

        self.history: History = History(ledger.database)
        self.timings: Timings = Timings(ledger.database)
        self._ledger = ledger
        self._datastore = datastore
        self._checkout = checkout
        self._now = now
        self._leaves: dict[str, tuple[CodeLeaf, ...]] = {}  # never change once written

    def list(self, pipeline: str | None = None, status: Status | str | None = None, limit: int = 50) -> list[Run]:
        """Return the newest runs, newest first.

        Raises:
            NotFoundError: there is no such status.
        """
        wanted = None if status is None else _status(status)
        self.mark_interrupted()
        return [self._run(row) for row in self.history.runs(pipeline, wanted, limit)]

    def get(self, id: str) -> Run:  # noqa: A002 - the name is public API
        """Return the run of that id, of the one id that begins so, or the newest for ``latest``.

        Raises:
            NotFoundError: there is none, or several ids begin so.
        """
        self.mark_interrupted()
        return self._run(self.history.run(self._full_id(id)))

    def before(self, run: Run) -> Run:
        """Return the run of the same pipeline that started last before a run.

        Raises:
            NotFoundError: it is the first one.
        """
        row = self.history.run_before(run.id)
        if row is None:
            raise NotFoundError(f"run {run.id[:8]} is the first of {run.pipeline!r}: there is none before it")
        return self._run(row)

    def cancel(self, id: str, step: str | None = None, *, reason: str = "") -> Run:  # noqa: A002 - the name is public API
        """Ask a run's orchestrator to stop it, or one part of it; it does within a second. See ``Run.cancel``.

        Raises:
            NotFoundError: there is no such run or step; suggests what to write.
        """
        run = self.get(id)
        node = "" if step is None else run.part(step).node
        self._ledger.request_cancel(run.id, self._now(), node=node, reason=reason)
        return self.get(run.id)

    def mark_interrupted(self) -> builtins.list[str]:
        """Mark runs whose orchestrator died as interrupted, and free what they claimed; return their ids."""
        return self._ledger.interrupt_dead_runs(self._now())

    def counts(self, runs: builtins.list[Run]) -> dict[str, dict[Status, int]]:
        """Return how many steps of each run have which status, by run id; one query for all."""
        return self.history.counts([run.id for run in runs])

    def last_successes(
        self, pipeline: str, *, before: str | None = None, nodes: Sequence[str] | None = None, runs_at_most: int = 20
    ) -> dict[str, LastSuccess]:
        """Return when each node last succeeded or was reused, by node: one query a run, for large graphs.

        Args:
            pipeline: its name.
            before: run id; only runs that started before it count.
            nodes: which are asked for; None for all.
            runs_at_most: how many of the newest runs are looked through.
        """
        found = self.history.last_successes(pipeline, nodes, before, runs_at_most)
        return {
            node: LastSuccess(row.run_id, row.step_run_id, row.code, json.loads(row.inputs) if row.inputs else {})
            for node, row in found.items()
        }

    def code_leaves(self, code_digest: str) -> tuple[CodeLeaf, ...]:
        """Return the leaves of a code fingerprint that some run had; none when it is not known."""
        known = self._leaves.get(code_digest)
        if known is None:
            known = self._leaves[code_digest] = self.history.leaves(code_digest)
        return known

    def ingredients(self, step: StepRun) -> Ingredients:
        """Return what the step's key was made of, for ``explain.compare``."""
        return Ingredients(step.code_digest, self.code_leaves(step.code_digest), step.inputs)

    def last_ingredients(self, last: LastSuccess) -> Ingredients:
        """Return what the step's key was made of when it last ended well."""
        return Ingredients(last.code_digest, self.code_leaves(last.code_digest), last.inputs)

    def run_of(self, step_run_id: str) -> str | None:
        """Return the id of the run that a step run stands in; None when it is not known."""
        return self.history.run_of_step(step_run_id)

    # What records ask for when they are asked

    def children(self, run: Run) -> tuple[StepRun, ...]:
        """Return the steps and sub-pipelines of a run, in the order declared."""
        return tuple(self._step(row) for row in self.history.steps(run.id))

    def attempts(self, step: StepRun) -> tuple[AttemptEnded, ...]:
        """Return the ended attempts of a step."""
        from mlflow_pipes.workspace.ledger.rows import attempt_from_row

        return tuple(attempt_from_row(step.run_id, row) for row in self.history.attempts(step.id))

    def samples(self, step: StepRun) -> tuple[UsageSample, ...]:
        """Return what the attempts of a step used of their machines while they ran."""
        from mlflow_pipes.model.attempt import AttemptId
        from mlflow_pipes.workspace.ledger.rows import sample_from_row

        rows = self.history.samples(step.id)
        return tuple(sample_from_row(AttemptId(step.run_id, step.node, row.number), row) for row in rows)

    def critical_path(self, run: Run) -> tuple[Link, ...]:
        """Return the chain of steps and waits that made a run as long as it is."""
        from mlflow_pipes.workspace.timeline import path_of, timeline

        steps = timeline(run.children, self.timings.attempts(run.id))
        return path_of(steps, run.started_at.timestamp(), self._now())

    def rolled_up(self, run: Run) -> Mapping[str, float]:
        """Return the last number of each metric of a run's steps."""
        from mlflow_pipes.workspace.ledger.publications import rolled_up

        metrics = rolled_up(self._ledger.database, run.id, None)
        return {metric.key: metric.number for metric in metrics if metric.number is not None}

    def load(self, artifact: Artifact, wanted: Any) -> Any:
        """Return an artifact's value."""
        from mlflow_pipes import content

        return content.load(artifact, self._datastore, wanted, checkout=self._checkout)

    def _full_id(self, wanted: str) -> str:
        if wanted == "latest":
            newest = self.history.runs(None, None, 1)
            if not newest:
                raise NotFoundError("this workspace has no runs yet")
            return str(newest[0].run_id)
        if re.fullmatch(r"[0-9a-f]{1,32}", wanted):
            found = self.history.run_ids(wanted)
            if len(found) == 1:
                return found[0]
            if found:
                listed = ", ".join(run_id[:12] for run_id in found)
                raise NotFoundError(f"several runs begin with {wanted!r}: {listed}; give more digits")
        if wanted in self.history.pipelines():
            raise NotFoundError(f"{wanted!r} is a pipeline; give a run's id (see `pipes runs`) or 'latest'")
        recent = [row.run_id for row in self.history.runs(None, None, 200)]
        near = suggest(wanted, ["latest", *recent, *(run_id[: max(len(wanted), 4)] for run_id in recent)])
        raise NotFoundError(f"there is no run {wanted!r}{near} (`pipes runs` lists them)")

    def _run(self, row: Any) -> Run:
        return Run(
            id=row.run_id,
            pipeline=row.pipeline,
            experiment=row.experiment,
            status=Status(row.status),
            started_at=_utc(row.started_at),
            ended_at=_utc_or_none(row.ended_at),
            parameters=json.loads(row.parameters),
            tags=json.loads(row.tags),
            host=row.host,
            process=row.process,
            user=row.user_name,
            target=row.target,
            source=SourceState(row.git_commit, row.git_branch, row.git_remote, bool(row.git_dirty)),
            file=row.file,
            command=row.command,
            message=row.message,
            cancel_requested=bool(row.cancel_requested),
            artifact=None if row.output is None else from_json(row.output),
            resumed_from=row.resumed_from,
            first_run_id=row.first_run_id or row.run_id,
            _runs=self,
        )

    def _step(self, row: Any) -> StepRun:
        return StepRun(
            id=row.step_run_id,
            run_id=row.run_id,
            node=row.node,
            name=row.name,
            kind=row.kind,
            status=Status(row.status),
            parent_id=row.parent_id,
            position=row.position,
            parents=tuple(json.loads(row.parents)),
            started_at=_utc_or_none(row.started_at),
            ended_at=_utc_or_none(row.ended_at),
            attempts=row.attempts or 0,
            target=row.target or "",
            worker=row.worker or "",
            reused_from=row.reused_from,
            reason=row.reason or "",
            key=row.key or "",
            code_digest=row.code or "",
            inputs=json.loads(row.inputs) if row.inputs else {},
            parameters=json.loads(row.parameters),
            labels=json.loads(row.tags),
            artifact=None if row.output is None else from_json(row.output),
            effect=bool(row.effect),
            named_by=row.named_by or "",
            _runs=self,
        )


def _status(text: Status | str) -> Status:
    try:
        return Status(text)
    except ValueError:
        known = [status.value for status in Status]
        raise NotFoundError(f"there is no status {text!r}{suggest(text, known)} (one of: {', '.join(known)})") from None


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _utc_or_none(at: float | None) -> datetime | None:
    return None if at is None else _utc(at)
