"""Rows of the ledger as publications: what MLflow is shown of a run, a sub-pipeline or a step."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.artifact import Artifact, Collection, Leaf, from_json
from mlflow_pipes.model.attempt import AttemptId, UsageSample
from mlflow_pipes.model.publication import Publication
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tracked import NOTHING_TRACKED, Metric, Tracked
from mlflow_pipes.workspace.ledger import rows, tables
from mlflow_pipes.workspace.ledger.connection import Database
from mlflow_pipes.workspace.usage import as_metrics

# Distinct metrics rolled up on one pipeline run: more are of no use as columns in MLflow.
ROLLED_UP_AT_MOST = 1000

_runs, _steps, _metrics, _attempts = tables.runs.c, tables.step_runs.c, tables.metrics.c, tables.attempts.c


@dataclass(slots=True)
class StepFacts:
    """What stands about a step outside its own row."""

    tracked: Tracked = NOTHING_TRACKED
    origin: Tracked = NOTHING_TRACKED
    host: str = ""
    usage: tuple[UsageSample, ...] = ()


@dataclass(slots=True)
class _Facts:
    runs: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    tracked: dict[str, Tracked] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    usage: dict[str, tuple[UsageSample, ...]] = field(default_factory=dict)
    mlflow_run_ids: dict[str, str] = field(default_factory=dict)


def read_publications(database: Database, ids: Sequence[str], destination: str) -> list[Publication]:
    """Return the publications of these runs of any kind, in that order; ids not there are left out."""
    facts = _read_facts(database, ids, destination)
    found = []
    for id_ in ids:
        if (run := facts.runs.get(id_)) is not None:
            metrics = rolled_up(database, run.run_id, None)
            found.append(run_publication(run, metrics, facts.mlflow_run_ids.get(id_)))
        elif (step := facts.steps.get(id_)) is not None:
            metrics = rolled_up(database, step.run_id, id_) if step.kind == "pipeline" else ()
            about = StepFacts(
                facts.tracked.get(id_, NOTHING_TRACKED),
                facts.tracked.get(step.reused_from or "", NOTHING_TRACKED),
                facts.hosts.get(id_, ""),
                facts.usage.get(id_, ()),
            )
            found.append(step_publication(step, about, metrics, facts.mlflow_run_ids.get(id_)))
    return found


def _read_facts(database: Database, ids: Sequence[str], destination: str) -> _Facts:
    facts = _Facts()
    joined = tables.step_runs.join(tables.runs, _runs.run_id == _steps.run_id)
    of_its_run = (_runs.experiment, _runs.user_name, _runs.file, *_git_columns(), _runs.pipeline)
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        for row in database.rows(select(tables.runs).where(_runs.run_id.in_(some))):
            facts.runs[row.run_id] = row
        query = select(tables.step_runs, *of_its_run).select_from(joined).where(_steps.step_run_id.in_(some))
        found = database.rows(query)
        facts.steps.update((row.step_run_id, row) for row in found)
        with_origins = [row.step_run_id for row in found] + [row.reused_from for row in found if row.reused_from]
        facts.tracked.update(read_tracked(database, with_origins))
        hosts = select(_attempts.step_run_id, _attempts.host).where(_attempts.step_run_id.in_(some))
        facts.hosts.update((row[0], row[1]) for row in database.rows(hosts.order_by(_attempts.number)))
        facts.usage.update(_read_usage(database, some))
        delivered = tables.deliveries.c
        receipts = select(delivered.run_id, delivered.mlflow_run_id).where(
            delivered.destination == destination, delivered.run_id.in_(some)
        )
        facts.mlflow_run_ids.update((row[0], row[1]) for row in database.rows(receipts))
    return facts


def _read_usage(database: Database, step_run_ids: Sequence[str]) -> dict[str, tuple[UsageSample, ...]]:
    """Return what the attempts of these steps used, by step_run_id; those without samples are left out."""
    samples = tables.usage_samples
    query = select(samples).where(samples.c.step_run_id.in_(step_run_ids))
    found: defaultdict[str, list[UsageSample]] = defaultdict(list)
    for row in database.rows(query.order_by(samples.c.number, samples.c.at)):
        attempt = AttemptId("", row.step_run_id, row.number)
        found[row.step_run_id].append(rows.sample_from_row(attempt, row))
    return {id_: tuple(some) for id_, some in found.items()}


def read_tracked(database: Database, step_run_ids: Sequence[str]) -> dict[str, Tracked]:
    """Return what these steps logged, by step_run_id; those that logged nothing are left out."""
    found: dict[str, Tracked] = {}
    for start in range(0, len(step_run_ids), 500):
        some = list(step_run_ids[start : start + 500])
        tracked = tables.tracked
        for row in database.rows(select(tracked).where(tracked.c.step_run_id.in_(some))):
            found[row.step_run_id] = rows.tracked_from_row(row, ())
    if not found:
        return found
    metrics: defaultdict[str, list[Metric]] = defaultdict(list)
    ids = list(found)
    for start in range(0, len(ids), 500):
        of_some = select(tables.metrics).where(_metrics.step_run_id.in_(ids[start : start + 500]))
        for row in database.rows(of_some.order_by(_metrics.step_run_id, _metrics.position)):
            metrics[row.step_run_id].append(rows.metric_from_row(row))
    return {
        id_: Tracked(tuple(metrics[id_]), one.params, one.tags, one.artifacts, one.nested, one.extra)
        for id_, one in found.items()
    }


def rolled_up(database: Database, run_id: str, group_id: str | None) -> tuple[Metric, ...]:
    """Return the last numbers that the steps of a run (of a group in it) logged, as ``node/key``.

    Reused steps count with what their origin logged. At most :data:`ROLLED_UP_AT_MOST` keys, first steps first.
    """
    origin = func.coalesce(_steps.reused_from, _steps.step_run_id)
    query = (
        select(_steps.node, _steps.parent_id, tables.metrics)
        .select_from(tables.step_runs.join(tables.metrics, _metrics.step_run_id == origin))
        .where(_steps.run_id == run_id, _metrics.kind == "number")
        .order_by(_steps.position, _metrics.step_run_id, _metrics.position)
    )
    inside = None if group_id is None else _below(database, run_id, group_id)
    last: dict[str, Metric] = {}
    for row in database.rows(query):
        if inside is not None and row.parent_id not in inside:
            continue
        key = f"{row.node}/{row.key}"
        if key in last or len(last) < ROLLED_UP_AT_MOST:
            metric = rows.metric_from_row(row)
            last[key] = Metric(key, "number", number=metric.number, step=metric.step, timestamp_ms=metric.timestamp_ms)
    return tuple(last.values())


def _below(database: Database, run_id: str, group_id: str) -> set[str]:
    """Return the ids of a group and all that may hold steps below it."""
    query = select(_steps.step_run_id, _steps.parent_id).where(_steps.run_id == run_id).order_by(_steps.position)
    inside = {group_id}
    for id_, parent_id in database.rows(query):  # parents are declared before their children
        if parent_id in inside:
            inside.add(id_)
    return inside


def run_publication(row: Any, metrics: tuple[Metric, ...], mlflow_run_id: str | None) -> Publication:
    """Return what MLflow is shown of a pipeline's run."""
    output = None if row.output is None else from_json(row.output)
    tags = {
        **json.loads(row.tags),
        "pipes.run_id": row.run_id,
        "pipes.root_id": row.run_id,
        "pipes.pipeline": row.pipeline,
        "pipes.status": row.status,
        **_given("pipes.target", row.target),
        **_given("pipes.host", row.host),
        **_given("pipes.command", row.command),
        **_given("pipes.resumed_from", row.resumed_from),
        **_given("mlflow.user", row.user_name),
        **_given("mlflow.note.content", row.doc),
        **_source_tags(row),
    }
    return Publication(
        run_id=row.run_id,
        revision=row.revision,
        root_id=row.run_id,
        experiment=row.experiment,
        name=row.pipeline,
        kind="run",
        status=Status(row.status),
        started_at=row.started_at,
        ended_at=row.ended_at,
        user=row.user_name,
        source_file=row.file,
        params=json.loads(row.parameters),
        tags=tags,
        metrics=metrics,
        mlflow_run_id=mlflow_run_id,
        outputs=describe_outputs(output),
        message=row.message,
    )


def step_publication(row: Any, facts: StepFacts, rolled: tuple[Metric, ...], mlflow_run_id: str | None) -> Publication:
    """Return what MLflow is shown of a step's run; a reused one shows what its origin logged."""
    shown = facts.origin if row.reused_from else facts.tracked
    ended = Status(row.status).ended
    tags = {
        **json.loads(row.tags),
        **shown.tags,
        "pipes.run_id": row.step_run_id,
        "pipes.root_id": row.run_id,
        "pipes.pipeline": row.pipeline,
        "pipes.node": row.node,
        "pipes.status": row.status,
        **_given("pipes.action_key", row.key),
        **_given("pipes.code", row.code),
        **_given("pipes.target", row.target),
        **_given("pipes.worker", row.worker),
        **_given("pipes.host", facts.host),
        **_given("pipes.attempts", "" if row.attempts is None else str(row.attempts)),
        **_given("pipes.reused_from", row.reused_from),
        **_given("pipes.reason", row.reason),
        **_given("mlflow.user", row.user_name),
        **_source_tags(row),
    }
    return Publication(
        run_id=row.step_run_id,
        revision=row.revision or 0,
        root_id=row.run_id,
        experiment=row.experiment,
        name=row.node,
        kind=row.kind,
        # A retry waits again, but MLflow has seen it run.
        status=Status(row.status) if ended else Status.RUNNING,
        parent_id=row.parent_id,
        started_at=row.started_at if row.started_at is not None else row.ended_at,
        ended_at=row.ended_at,
        user=row.user_name,
        source_file=row.file,
        params={**json.loads(row.parameters), **shown.params},
        tags=tags,
        metrics=rolled if row.kind == "pipeline" else (*shown.metrics, *as_metrics(facts.usage)),
        artifacts=facts.tracked.artifacts,
        nested=facts.tracked.nested,
        extra=facts.tracked.extra,
        reused_from=row.reused_from,
        mlflow_run_id=mlflow_run_id,
        outputs=describe_outputs(None if row.output is None else from_json(row.output)),
        message=(row.reason or "") if Status(row.status) is Status.FAILED else "",
    )


def describe_outputs(output: Artifact | None) -> dict[str, str]:
    """Return a short description of each field of a record or dict, else of the one output."""
    if output is None:
        return {}
    if isinstance(output, Collection) and output.kind in {"record", "dict"} and len(output.items) <= 100:
        return {str(key): _described(item) for key, item in zip(output.keys, output.items, strict=True)}
    return {"output": _described(output)}


def _described(artifact: Artifact) -> str:
    from mlflow_pipes.content import describe

    try:
        return describe(artifact)
    except (PipesError, ValueError):
        # Written by a codec that is no longer installed, or by another version of it: publishing must go on.
        return artifact.codec if isinstance(artifact, Leaf) else artifact.kind


def _git_columns() -> tuple[Any, ...]:
    return (_runs.git_commit, _runs.git_branch, _runs.git_remote, _runs.git_dirty)


def _source_tags(row: Any) -> Mapping[str, str]:
    if not row.git_commit:
        return {}
    return {
        "pipes.git_commit": row.git_commit,
        **_given("pipes.git_branch", row.git_branch),
        **_given("pipes.git_remote", row.git_remote),
        "pipes.git_dirty": "true" if row.git_dirty else "false",
        "mlflow.source.git.commit": row.git_commit,
        **_given("mlflow.source.git.branch", row.git_branch),
        **_given("mlflow.source.git.repoURL", row.git_remote),
    }


def _given(key: str, value: str | None) -> Mapping[str, str]:
    return {key: value} if value else {}
