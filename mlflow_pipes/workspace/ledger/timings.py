"""Questions about when steps ran and for what they waited, answered from the ledger."""

from __future__ import annotations

import json
from typing import NamedTuple

from sqlalchemy import func, select

from mlflow_pipes.model.run import Status
from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.connection import Database

_runs, _steps, _attempts = tables.runs.c, tables.step_runs.c, tables.attempts.c
_entries = tables.cache_entries.c


class Took(NamedTuple):
    """How long a step's last try took, where it succeeded."""

    node: str
    name: str
    seconds: float


class Holder(NamedTuple):
    """When another run computed the same (ended None: it has not)."""

    run_id: str
    started_at: float
    ended_at: float | None


class Timings:
    """Reads the ledger; never writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def took(self, pipeline: str, runs_at_most: int = 20) -> list[Took]:
        """Return how long steps took that ended well in the newest runs of a pipeline, newest first.

        A reused step took what the run took that computed its output.
        """
        computed = tables.step_runs.alias("computed")
        origin = func.coalesce(_steps.reused_from, _steps.step_run_id)
        newest = select(_runs.run_id).where(_runs.pipeline == pipeline)
        found: list[Took] = []
        for (run_id,) in self._database.rows(newest.order_by(_runs.started_at.desc()).limit(runs_at_most)):
            query = (
                select(_steps.node, _steps.name, computed.c.started_at, computed.c.ended_at)
                .select_from(tables.step_runs.join(computed, computed.c.step_run_id == origin))
                .where(_steps.run_id == run_id, _steps.kind == "step", computed.c.status == Status.SUCCEEDED.value)
            )
            rows = self._database.rows(query)
            found += [Took(node, name, max(0.0, end - start)) for node, name, start, end in rows if start and end]
        return found

    def attempts(self, run_id: str) -> dict[str, list[tuple[float, float]]]:
        """Return when the ended attempts of each step of a run began and ended, in order, by the step run's id."""
        query = (
            select(_attempts.step_run_id, _attempts.started_at, _attempts.ended_at)
            .select_from(tables.step_runs.join(tables.attempts, _attempts.step_run_id == _steps.step_run_id))
            .where(_steps.run_id == run_id)
            .order_by(_attempts.step_run_id, _attempts.number)
        )
        found: dict[str, list[tuple[float, float]]] = {}
        for step_run_id, start, end in self._database.rows(query):
            found.setdefault(step_run_id, []).append((start, end))
        return found

    def holders(self, run_id: str, node: str, name: str, key: str | None, since: float, until: float) -> list[Holder]:
        """Return when steps of other runs than *run_id* computed the same at any time from *since* to *until*.

        The same is the same key; or, where that is not known yet, the same step under the same name. Looks at runs that
        were open then; cost: their steps. A step that is never reused waits for nobody.
        """
        open_then = (_runs.started_at <= until) & (_runs.ended_at.is_(None) | (_runs.ended_at >= since))
        same = _steps.key == key if key else (_steps.node == node) & (_steps.name == name)
        query = (
            select(_steps.run_id, _steps.started_at, _steps.ended_at)
            .select_from(tables.step_runs.join(tables.runs, _steps.run_id == _runs.run_id))
            .where(open_then, _runs.run_id != run_id, same, _steps.status != Status.REUSED.value)
            .where(_steps.started_at <= until, _steps.ended_at.is_(None) | (_steps.ended_at >= since))
            .where(_steps.key.not_in(select(_entries.key).where(_entries.key == _steps.key, ~_entries.reuse)))
        )
        return [Holder(*row) for row in self._database.rows(query)]

    def token_waits(self, step_run_id: str) -> list[tuple[float, float, dict[str, float]]]:
        """Return from when to when a step waited for tokens before it began, and for how many of each; in order."""
        waits = tables.token_waits.c
        query = select(waits.since, waits.until, waits.amounts).where(waits.step_run_id == step_run_id)
        found = self._database.rows(query.order_by(waits.since))
        return [(since, until, json.loads(text)) for since, until, text in found]

    def duration_s(self, step_run_id: str) -> float | None:
        """Return how long a step's run took; None when it is not known."""
        query = select(_steps.started_at, _steps.ended_at).where(_steps.step_run_id == step_run_id)
        for start, end in self._database.rows(query):
            if start is not None and end is not None:
                return max(0.0, float(end) - float(start))
        return None
