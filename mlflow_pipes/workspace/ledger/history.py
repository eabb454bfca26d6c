"""Questions about past and present runs, answered as rows; ``workspace.runs`` makes records of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from mlflow_pipes.model.run import GOOD, Status
from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.model.tracked import NOTHING_TRACKED, Tracked
from mlflow_pipes.workspace.ledger import rows, tables
from mlflow_pipes.workspace.ledger.connection import Database
from mlflow_pipes.workspace.ledger.publications import read_tracked

_runs, _steps = tables.runs.c, tables.step_runs.c
_NEWEST_FIRST = (_runs.started_at.desc(), _runs.run_id)


class History:
    """Reads the ledger; never writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs(self, pipeline: str | None, status: Status | None, limit: int | None) -> Sequence[Any]:
        """Return runs, newest first."""
        query = select(tables.runs).order_by(*_NEWEST_FIRST)
        if pipeline is not None:
            query = query.where(_runs.pipeline == pipeline)
        if status is not None:
            query = query.where(_runs.status == status.value)
        return self._database.rows(query if limit is None else query.limit(limit))

    def run(self, run_id: str) -> Any:
        """Return a run's row, None when there is none."""
        found = self._database.rows(select(tables.runs).where(_runs.run_id == run_id))
        return found[0] if found else None

    def run_before(self, run_id: str) -> Any:
        """Return the row of the run that stands after this one in :meth:`runs` of its pipeline, None when none does."""
        this = self.run(run_id)
        at_once = (_runs.started_at == this.started_at) & (_runs.run_id > run_id)
        older = select(tables.runs).where(
            _runs.pipeline == this.pipeline, (_runs.started_at < this.started_at) | at_once
        )
        found = self._database.rows(older.order_by(*_NEWEST_FIRST).limit(1))
        return found[0] if found else None

    def run_ids(self, prefix: str, limit: int = 5) -> list[str]:
        """Return up to *limit* ids that begin with *prefix* (hexadecimal digits)."""
        # A range, not LIKE: both dialects use the primary key's index for it.
        query = select(_runs.run_id).where(_runs.run_id >= prefix, _runs.run_id < prefix + "g")
        return [row[0] for row in self._database.rows(query.order_by(_runs.run_id).limit(limit))]

    def pipelines(self) -> list[str]:
        """Return the names of all pipelines that ever ran."""
        return [row[0] for row in self._database.rows(select(_runs.pipeline).distinct())]

    def steps(self, run_id: str) -> Sequence[Any]:
        """Return the steps and sub-pipelines of a run, in the order declared."""
        query = select(tables.step_runs).where(_steps.run_id == run_id)
        return self._database.rows(query.order_by(_steps.position, _steps.step_run_id))

    def step(self, step_run_id: str) -> Any:
        """Return one step's row, None when there is none."""
        found = self._database.rows(select(tables.step_runs).where(_steps.step_run_id == step_run_id))
        return found[0] if found else None

    def counts(self, run_ids: Sequence[str]) -> dict[str, dict[Status, int]]:
        """Return how many steps (not sub-pipelines) of each run have which status."""
        from sqlalchemy import func

        found: dict[str, dict[Status, int]] = {run_id: {} for run_id in run_ids}
        query = (
            select(_steps.run_id, _steps.status, func.count())
            .where(_steps.run_id.in_(list(run_ids)), _steps.kind == "step")
            .group_by(_steps.run_id, _steps.status)
        )
        for run_id, status, count in self._database.rows(query):
            found[run_id][Status(status)] = count
        return found

    def awaited(self, run_id: str) -> list[tuple[str, str, str, str]]:
        """Return which steps of a run wait for others to compute the same: node, and the other's run, node and host."""
        waits, computes = tables.step_runs.alias("waits"), tables.step_runs.alias("computes")
        claims = tables.claims.c
        same = (computes.c.run_id == claims.run_id) & (computes.c.key == claims.key)
        query = (
            select(waits.c.node, computes.c.run_id, computes.c.node, claims.host)
            .select_from(waits.join(tables.claims, claims.key == waits.c.key).join(computes, same))
            .where(waits.c.run_id == run_id, waits.c.status == Status.LOOKING_UP.value)
            .where(computes.c.status.in_([Status.QUEUED.value, Status.RUNNING.value]))
            .order_by(waits.c.position)
        )
        return [tuple(row) for row in self._database.rows(query)]

    def on_targets(self) -> list[tuple[str, str, str, str, str, float | None]]:
        """Return what is queued or running: target, run, pipeline, node, status and when it began; oldest first."""
        query = (
            select(_steps.target, _steps.run_id, _runs.pipeline, _steps.node, _steps.status, _steps.started_at)
            .select_from(tables.step_runs.join(tables.runs, _runs.run_id == _steps.run_id))
            .where(_runs.ended_at.is_(None), _steps.kind == "step", _steps.target.is_not(None))
            .where(_steps.status.in_([Status.QUEUED.value, Status.RUNNING.value]))
            .order_by(_runs.started_at, _steps.position)
        )
        return [tuple(row) for row in self._database.rows(query)]

    def attempts(self, step_run_id: str) -> Sequence[Any]:
        """Return the ended attempts of a step, in order."""
        attempts = tables.attempts
        query = select(attempts).where(attempts.c.step_run_id == step_run_id)
        return self._database.rows(query.order_by(attempts.c.number))

    def samples(self, step_run_id: str) -> Sequence[Any]:
        """Return what the attempts of a step used while they ran, in order."""
        samples = tables.usage_samples
        query = select(samples).where(samples.c.step_run_id == step_run_id)
        return self._database.rows(query.order_by(samples.c.number, samples.c.at))

    def warnings(self, run_id: str) -> list[tuple[str, str]]:
        """Return what the attempts of a run were warned of, each with the node, in the order declared."""
        attempts = tables.attempts
        query = (
            select(_steps.node, attempts.c.warnings)
            .select_from(tables.step_runs.join(attempts, attempts.c.step_run_id == _steps.step_run_id))
            .where(_steps.run_id == run_id, attempts.c.warnings != "[]")
            .order_by(_steps.position, attempts.c.number)
        )
        return [(node, text) for node, texts in self._database.rows(query) for text in json.loads(texts)]

    def tracked(self, step_run_id: str) -> Tracked:
        """Return what a step logged."""
        return read_tracked(self._database, [step_run_id]).get(step_run_id, NOTHING_TRACKED)

    def leaves(self, code_digest: str) -> tuple[CodeLeaf, ...]:
        """Return the leaves of a code fingerprint; none when it is not known."""
        codes = tables.code_fingerprints.c
        found = self._database.rows(select(codes.leaves).where(codes.digest == code_digest))
        return rows.leaves_from_text(found[0][0]) if found else ()

    def last_successes(
        self, pipeline: str, nodes: Sequence[str] | None, before: str | None, runs_at_most: int
    ) -> dict[str, Any]:
        """Return the newest row of each node (all nodes for None) where it succeeded or was reused, by node.

        *before*: only runs started earlier than the run of that id count. Looks through the newest *runs_at_most*
        runs of the pipeline.
        """
        query = select(_runs.run_id).where(_runs.pipeline == pipeline)
        if before is not None:
            started_at = select(_runs.started_at).where(_runs.run_id == before).scalar_subquery()
            query = query.where(_runs.run_id != before, _runs.started_at <= started_at)
        good = [status.value for status in GOOD]
        found: dict[str, Any] = {}
        wanted = None if nodes is None else set(nodes)
        for (run_id,) in self._database.rows(query.order_by(_runs.started_at.desc()).limit(runs_at_most)):
            ended_well = select(_steps.node, _steps.run_id, _steps.step_run_id, _steps.code, _steps.inputs).where(
                _steps.run_id == run_id, _steps.status.in_(good), _steps.code.is_not(None)
            )
            if wanted is not None and len(wanted) <= 500:
                ended_well = ended_well.where(_steps.node.in_(sorted(wanted)))
            for row in self._database.rows(ended_well):
                if row.node not in found and (wanted is None or row.node in wanted):
                    found[row.node] = row
            if wanted is not None and wanted <= found.keys():
                break
        return found

    def run_of_step(self, step_run_id: str) -> str | None:
        """Return the id of the run that a step run stands in; None when there is no such step run."""
        found = self._database.rows(select(_steps.run_id).where(_steps.step_run_id == step_run_id))
        return found[0][0] if found else None
