"""What a run that resumes others finds in the ledger about them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import or_, select

from mlflow_pipes.model.artifact import from_json
from mlflow_pipes.model.attempt import FailureKind
from mlflow_pipes.model.resumption import EffectDone, NodeAndKey, Resumption, StoredCall, may_have_happened
from mlflow_pipes.workspace.ledger import rows, tables
from mlflow_pipes.workspace.ledger.connection import Database

_runs, _steps, _attempts, _calls = tables.runs.c, tables.step_runs.c, tables.attempts.c, tables.calls.c


def stored_call(database: Database, run_id: str) -> StoredCall | None:
    """Return how a run's call can be declared again; None for a run that did not say."""
    found = database.rows(select(tables.calls).where(_calls.run_id == run_id))
    return rows.call_from_row(found[0]) if found else None


def under_way(database: Database, first_run_id: str) -> list[str]:
    """Return the ids of the runs of one line, which resumed each other, that have not ended."""
    query = select(_runs.run_id).where(_of_line(first_run_id), _runs.ended_at.is_(None))
    return [row[0] for row in database.rows(query.order_by(_runs.started_at.desc()))]


def resumption(database: Database, run_id: str, first_run_id: str) -> Resumption:
    """Return what a run that resumes *run_id* takes over from all the runs of its line.

    Cost: O(effects of those runs).
    """
    joined = tables.step_runs.join(tables.runs, _runs.run_id == _steps.run_id).outerjoin(
        tables.attempts, _attempts.step_run_id == _steps.step_run_id
    )
    effect = (_steps.run_id, _steps.step_run_id, _steps.node, _steps.key, _steps.attempts.label("begun"))
    ended = (_attempts.number, _attempts.failure, _attempts.output)
    query = (
        select(*effect, *ended)
        .select_from(joined)
        .where(_of_line(first_run_id), _steps.effect, _steps.key.is_not(None), _steps.attempts > 0)
        .order_by(_runs.started_at, _runs.run_id, _steps.position, _attempts.number)
    )
    of_step: defaultdict[str, list[Any]] = defaultdict(list)
    for row in database.rows(query):
        of_step[row.step_run_id].append(row)
    done: dict[NodeAndKey, EffectDone] = {}
    unknown: dict[NodeAndKey, str] = {}
    for attempts in of_step.values():
        step = attempts[0]
        outputs = [row.output for row in attempts if row.output is not None]
        if outputs:
            done[step.node, step.key] = EffectDone(step.run_id, step.step_run_id, from_json(outputs[-1]))
        elif may_have_happened(step.begun, [_end(row) for row in attempts if row.number is not None]):
            unknown[step.node, step.key] = step.run_id
    return Resumption(
        run_id, first_run_id, done, {effect: run for effect, run in unknown.items() if effect not in done}
    )


def _end(row: Any) -> FailureKind | None:
    failure = rows.failure_from_text(row.failure)
    return None if failure is None else failure.kind


def _of_line(first_run_id: str) -> Any:
    return or_(_runs.run_id == first_run_id, _runs.first_run_id == first_run_id)
