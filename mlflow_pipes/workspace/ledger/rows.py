"""Records of a run as rows of the ledger, and back; pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow_pipes.model.artifact import Leaf, from_json, from_plain, to_json
from mlflow_pipes.model.attempt import AttemptId, Failure, FailureKind, GpuUse, Usage, UsageSample
from mlflow_pipes.model.resumption import StoredCall
from mlflow_pipes.model.run import (
    AttemptEnded,
    AttemptSampled,
    OutputCached,
    RunStarted,
    Status,
    StepChanged,
    StepDeclared,
    StepTracked,
)
from mlflow_pipes.model.step import CodeFingerprint, CodeLeaf
from mlflow_pipes.model.tokens import TokensAwaited
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.workspace.ledger.flights import Claim

SqlRow = tuple[Any, ...]

# Statuses that MLflow is shown; the ones before are nobody's business there.
_SHOWN = frozenset(status for status in Status if status.ended) | {Status.RUNNING}


# Made once: json.dumps makes an encoder in each call that asks for other separators, 2 µs every time.
json_text = json.JSONEncoder(separators=(",", ":")).encode


def plain(text: str) -> str:
    """Return a text as both databases can hold it: no NUL, no half of a character (JSON writes those as escapes)."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _map_text(mapping: Mapping[str, Any]) -> str:
    return json_text(dict(mapping)) if mapping else "{}"


def _list_text(items: Sequence[Any]) -> str:
    return json_text(items) if items else "[]"


def _leaf_text(leaf: Leaf | None) -> str | None:
    return None if leaf is None else to_json(leaf)


def run_row(record: RunStarted, revision: int, heartbeat_at: float) -> SqlRow:
    """Return the row of a new run, in the order of the table's columns."""
    source = record.source
    return (
        record.run_id, record.pipeline, plain(record.experiment), Status.RUNNING.value, record.started_at, None,
        _map_text(record.parameters), _map_text(record.tags), record.host, record.process, plain(record.user),
        record.target, source.commit, plain(source.branch), plain(source.remote), source.dirty, plain(record.file),
        plain(record.doc), plain(record.command),
        None, "", heartbeat_at, False, revision, record.resumed_from or None, record.first_run_id or None,
    )  # fmt: skip


def call_row(run_id: str, call: StoredCall) -> SqlRow:
    """Return the row of how a run's call can be declared again."""
    return (
        run_id, plain(call.file), plain(call.name), plain(call.folder), _map_text(call.options),
        _map_text(call.given), call.arguments, plain(call.problem),
    )  # fmt: skip


def call_from_row(row: Any) -> StoredCall:
    """Read a row of ``calls``."""
    return StoredCall(
        file=row.file,
        name=row.name,
        folder=row.folder,
        options=json.loads(row.options),
        given=json.loads(row.given),
        arguments=bytes(row.arguments),
        problem=row.problem,
    )


def step_row(record: StepDeclared) -> SqlRow:
    """Return the row of a declared step: the columns up to ``status``, ``effect`` and ``named_by``."""
    return (
        record.step_run_id, record.run_id, record.node, record.name, record.kind, record.parent_id,
        _map_text(record.parameters), _map_text(record.tags), _list_text(record.parents), record.position,
        Status.WAITING.value, record.effect, record.named_by or None,
    )  # fmt: skip


def change_rows(records: Iterable[StepChanged], revision: int) -> list[SqlRow]:
    """Return one update row a step: what its changes come to together, in the order of first change."""
    merged: dict[str, list[Any]] = {}
    for record in records:
        status = record.status
        ended = status in _ENDED
        started_at = record.started_at
        if started_at is None and status in _STARTS:
            started_at = record.at
        inputs = record.inputs
        output = record.output
        row = [
            status.value, started_at, record.at if ended else None, record.key, record.code,
            None if inputs is None else _map_text(inputs), None if output is None else to_json(output),
            record.reused_from, record.reason and plain(record.reason), record.target, record.worker, record.attempts,
            revision if status in _SHOWN else None, record.step_run_id,
        ]  # fmt: skip
        earlier = merged.get(record.step_run_id)
        if earlier is not None:
            row = [old if new is None else new for old, new in zip(earlier, row, strict=True)]
            row[2] = record.at if ended else None
        merged[record.step_run_id] = row
    return [tuple(row) for row in merged.values()]


_ENDED = frozenset(status for status in Status if status.ended)
# Without a start of its own: a reused output was there at once.
_STARTS = frozenset({Status.RUNNING, Status.REUSED})


def attempt_row(record: AttemptEnded) -> SqlRow:
    """Return the row of an ended attempt."""
    usage = record.usage
    return (
        record.step_run_id, record.number, record.started_at, record.ended_at, record.target, record.worker,
        record.host, None if record.failure is None else json_text(failure_toplain(record.failure)),
        usage.cpu_s, usage.peak_memory_bytes, _list_text(record.warnings),
        None if record.output is None else to_json(record.output),
    )  # fmt: skip


def sample_row(record: AttemptSampled) -> SqlRow:
    """Return the row of what an attempt used at a moment."""
    sample = record.sample
    gpus = json_text(sample.gpus) if sample.gpus else None
    return (record.step_run_id, sample.attempt.number, sample.at, sample.cpus, sample.memory_bytes, gpus)


def sample_from_row(attempt: AttemptId, row: Any) -> UsageSample:
    """Read a row of ``usage_samples``."""
    gpus = tuple(GpuUse(*one) for one in json.loads(row.gpus)) if row.gpus else ()
    return UsageSample(attempt, row.at, row.cpus, row.memory_bytes, gpus)


def tracked_row(record: StepTracked) -> SqlRow:
    """Return the row of what a step logged, without its metrics."""
    tracked = record.tracked
    return (
        record.step_run_id, _map_text(tracked.params), _map_text(tracked.tags), _leaf_text(tracked.artifacts),
        _list_text(tracked.nested), _map_text(tracked.extra),
    )  # fmt: skip


def metric_rows(record: StepTracked) -> list[SqlRow]:
    """Return the rows of the metrics that a step logged, in the order logged."""
    step_run_id = record.step_run_id
    return [
        (
            step_run_id, position, plain(metric.key), metric.kind, _stored_number(metric.number),
            None if metric.plain is None else json_text(metric.plain), _leaf_text(metric.figure),
            metric.step, metric.timestamp_ms,
        )
        for position, metric in enumerate(record.tracked.metrics)
    ]  # fmt: skip


def token_wait_row(record: TokensAwaited) -> SqlRow:
    """Return the row of a wait for tokens."""
    return (record.step_run_id, record.since, record.until, json_text(dict(record.amounts)))


def entry_row(record: OutputCached, output: str) -> SqlRow:
    """Return the row of a cache entry."""
    return (
        record.key, output, record.step_run_id, record.pipeline, record.node, record.made_at, record.duration_s,
        record.reuse,
    )  # fmt: skip


def claim_row(claim: Claim) -> SqlRow:
    """Return the row of a claim."""
    return (claim.key, claim.run_id, claim.token, claim.host, claim.process, claim.expires_at)


def leaves_text(code: CodeFingerprint) -> str:
    """Return a code fingerprint's leaves as JSON."""
    return json_text([[leaf.kind, leaf.name, leaf.digest, list(leaf.via)] for leaf in code.leaves])


def leaves_from_text(text: str) -> tuple[CodeLeaf, ...]:
    """Read what :func:`leaves_text` wrote."""
    return tuple(CodeLeaf(kind, name, digest, tuple(via)) for kind, name, digest, via in json.loads(text))


def failure_toplain(failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON-like data."""
    return {
        "kind": failure.kind.value,
        "message": failure.message,
        "exception": list(failure.exception),
        "traceback": failure.traceback,
        "blobs": list(failure.blobs),
    }


def failure_from_text(text: str | None) -> Failure | None:
    """Read a failure's column."""
    if text is None:
        return None
    plain = json.loads(text)
    return Failure(
        FailureKind(plain["kind"]),
        plain["message"],
        tuple(plain["exception"]),
        plain["traceback"],
        tuple(plain["blobs"]),
    )


def attempt_from_row(run_id: str, row: Any) -> AttemptEnded:
    """Read a row of ``attempts``."""
    return AttemptEnded(
        run_id=run_id,
        step_run_id=row.step_run_id,
        number=row.number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        target=row.target,
        worker=row.worker,
        host=row.host,
        failure=failure_from_text(row.failure),
        usage=Usage(row.cpu_s, row.peak_memory_bytes),
        warnings=tuple(json.loads(row.warnings)),
        output=None if row.output is None else from_json(row.output),
    )


def leaf_from_text(text: str | None) -> Leaf | None:
    """Read a column that holds a leaf."""
    if text is None:
        return None
    leaf = from_plain(json.loads(text))
    assert isinstance(leaf, Leaf)
    return leaf


def metric_from_row(row: Any) -> Metric:
    """Read a row of ``metrics``."""
    number = row.number
    return Metric(
        key=row.key,
        kind=row.kind,
        number=math.nan if number is None and row.kind == "number" else number,
        plain=None if row.plain is None else json.loads(row.plain),
        figure=leaf_from_text(row.figure),
        step=row.step,
        timestamp_ms=row.timestamp_ms,
    )


def tracked_from_row(row: Any, metrics: tuple[Metric, ...]) -> Tracked:
    """Read a row of ``tracked`` (None for none)."""
    if row is None:
        return Tracked(metrics=metrics)
    return Tracked(
        metrics=metrics,
        params=json.loads(row.params),
        tags=json.loads(row.tags),
        artifacts=leaf_from_text(row.artifacts),
        nested=tuple(json.loads(row.nested)),
        extra=json.loads(row.extra),
    )


def _stored_number(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else float(number)
