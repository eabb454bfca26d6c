"""The ledger's side of garbage collection: which runs and cache entries stay, and what they reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, delete, select

from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.backends import Cursor
from mlflow_pipes.workspace.ledger.connection import Database

_runs, _steps, _entries = tables.runs.c, tables.step_runs.c, tables.cache_entries.c
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class RunAge:
    """When a run was; *live* while it has not ended."""

    run_id: str
    pipeline: str
    started_at: float
    live: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep left and took.

    Attributes:
        kept: the runs whose outputs stay. gone: ids of the others.
        live_since: when the oldest run under way began; None when none is.
        dropped: how many cache entries went.
        roots: artifacts, as JSON, that stay.
    """

    kept: frozenset[str]
    gone: tuple[str, ...]
    live_since: float | None
    dropped: int
    roots: tuple[str, ...]


def kept_runs(runs: Iterable[RunAge], since: float, newest: int) -> set[str]:
    """Return the runs to keep: under way, started after *since*, or among the *newest* of their pipeline."""
    of_pipeline: defaultdict[str, list[RunAge]] = defaultdict(list)
    for run in runs:
        of_pipeline[run.pipeline].append(run)
    kept: set[str] = set()
    for some in of_pipeline.values():
        some.sort(key=lambda run: run.started_at, reverse=True)
        kept.update(run.run_id for rank, run in enumerate(some) if run.live or run.started_at >= since or rank < newest)
    return kept


def sweep(database: Database, *, since: float, newest: int, dry_run: bool) -> Swept:
    """Drop the cache entries made before *since* that no kept run used, and tell what is still reachable.

    While a run is under way, what the dropped entries reach still counts as reachable this once.
    """

    def work(_cursor: Cursor) -> tuple[Swept, list[str]]:
        runs = [
            RunAge(run_id, pipeline, started_at, ended_at is None)
            for run_id, pipeline, started_at, ended_at in database.rows(
                select(_runs.run_id, _runs.pipeline, _runs.started_at, _runs.ended_at)
            )
        ]
        kept = kept_runs(runs, since, newest)
        live = [run.started_at for run in runs if run.live]
        used = set(_column(database, _steps.key, kept))
        stays: list[str] = []
        goes: list[tuple[str, str]] = []
        for key, output, made_at in database.rows(select(_entries.key, _entries.output, _entries.made_at)):
            if made_at >= since or key in used:
                stays.append(output)
            else:
                goes.append((key, output))
        if goes and not dry_run:
            database.change(
                delete(tables.cache_entries).where(_entries.key == bindparam("k")), [{"k": key} for key, _ in goes]
            )
        if live:
            stays += [output for _, output in goes]
        gone = tuple(run.run_id for run in runs if run.run_id not in kept)
        return Swept(frozenset(kept), gone, min(live, default=None), len(goes), ()), stays

    swept, stays = database.write(work)
    return replace(swept, roots=(*stays, *_reached_by_runs(database, swept.kept)))


def _reached_by_runs(database: Database, run_ids: AbstractSet[str]) -> Iterator[str]:
    yield from _column(database, _steps.output, run_ids)
    wanted = sorted(run_ids)
    metrics, tracked, attempts = tables.metrics, tables.tracked, tables.attempts
    for some in _chunks(wanted):
        yield from _texts(database, select(_runs.output).where(_runs.run_id.in_(some)))
        of_steps = ((metrics, metrics.c.figure), (tracked, tracked.c.artifacts), (attempts, attempts.c.output))
        for table, column in of_steps:
            joined = table.join(tables.step_runs, table.c.step_run_id == _steps.step_run_id)
            query = select(column).select_from(joined).where(_steps.run_id.in_(some), column.is_not(None))
            yield from _texts(database, query)


def _column(database: Database, column: Any, run_ids: AbstractSet[str]) -> Iterator[str]:
    for some in _chunks(sorted(run_ids)):
        yield from _texts(database, select(column).where(_steps.run_id.in_(some), column.is_not(None)).distinct())


def _texts(database: Database, query: Any) -> Iterator[str]:
    for (text,) in database.rows(query):
        if text is not None:
            yield text


def _chunks(items: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _CHUNK):
        yield list(items[start : start + _CHUNK])
