"""Records of runs and steps, written as rows inside the ledger's transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_pipes.model.artifact import to_json
from mlflow_pipes.model.run import (
    AttemptEnded,
    AttemptSampled,
    CodeSeen,
    RunEnded,
    RunStarted,
    StepChanged,
    StepDeclared,
    StepTracked,
)
from mlflow_pipes.model.tokens import TokensAwaited
from mlflow_pipes.workspace.ledger import rows
from mlflow_pipes.workspace.ledger.backends import Cursor
from mlflow_pipes.workspace.ledger.connection import Prepared
from mlflow_pipes.workspace.ledger.statements import Statements


def write_history(
    cursor: Cursor, do: Statements, by_type: Mapping[type, list[Any]], revision: int, ahead_s: float
) -> None:
    """Write records by type, in an order in which every row finds the row that it belongs to.

    *ahead_s* is how far the ledger's clock is ahead of that of who wrote the records.
    """
    started: list[RunStarted] = by_type[RunStarted]
    write_many(cursor, do.insert_run, [rows.run_row(one, revision, one.started_at + ahead_s) for one in started])
    calls = [rows.call_row(one.run_id, one.call) for one in started if one.call is not None]
    write_many(cursor, do.insert_call, calls)
    seen: list[CodeSeen] = by_type[CodeSeen]
    write_many(cursor, do.put_code, [(record.code.digest, rows.leaves_text(record.code)) for record in seen])
    declared: list[StepDeclared] = by_type[StepDeclared]
    write_many(cursor, do.insert_step, [rows.step_row(record) for record in declared])
    changed: list[StepChanged] = by_type[StepChanged]
    write_many(cursor, do.change_step, rows.change_rows(changed, revision))
    ended: list[AttemptEnded] = by_type[AttemptEnded]
    write_many(cursor, do.put_attempt, [rows.attempt_row(record) for record in ended])
    sampled: list[AttemptSampled] = by_type[AttemptSampled]
    write_many(cursor, do.insert_sample, [rows.sample_row(record) for record in sampled])
    tracked: list[StepTracked] = by_type[StepTracked]
    if tracked:
        write_many(cursor, do.drop_metrics, [(record.step_run_id,) for record in tracked])
        write_many(cursor, do.insert_metric, [row for record in tracked for row in rows.metric_rows(record)])
        write_many(cursor, do.put_tracked, [rows.tracked_row(record) for record in tracked])
        write_many(cursor, do.touch_step, [(revision, record.step_run_id) for record in tracked])
    awaited: list[TokensAwaited] = by_type[TokensAwaited]
    write_many(cursor, do.insert_token_wait, [rows.token_wait_row(record) for record in awaited])
    over: list[RunEnded] = by_type[RunEnded]
    for record in over:
        output = None if record.output is None else to_json(record.output)
        row = (record.status.value, record.ended_at, output, rows.plain(record.message), revision, record.run_id)
        cursor.execute(do.end_run.sql, row)


def write_many(cursor: Cursor, statement: Prepared, parameters: Sequence[tuple[Any, ...]]) -> None:
    """Run a statement for each row of parameters, at once."""
    if len(parameters) == 1:
        cursor.execute(statement.sql, parameters[0])
    elif parameters:
        cursor.executemany(statement.sql, parameters)
