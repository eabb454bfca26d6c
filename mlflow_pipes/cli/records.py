"""Runs and steps as JSON: the shapes that ``--json`` promises (docs/reference/cli.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.cli.output import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_pipes.model.artifact import Artifact
    from mlflow_pipes.workspace import Run, StepRun


def run_record(run: Run) -> dict[str, Any]:
    """Return a run with its steps and their metrics."""
    children = run.children
    metrics = metrics_by_node(run.metrics, [child.node for child in children])
    return {
        **run_head(run),
        "message": run.message,
        "experiment": run.experiment,
        "parameters": dict(run.parameters),
        "tags": dict(run.tags),
        "target": run.target,
        "host": run.host,
        "user": run.user,
        "file": run.file,
        "command": run.command,
        "source": {
            "commit": run.source.commit,
            "branch": run.source.branch,
            "remote": run.source.remote,
            "dirty": run.source.dirty,
        },
        "output": describe(run.artifact),
        "steps": [step_record(child, metrics.get(child.node, {})) for child in children],
    }


def run_head(run: Run) -> dict[str, Any]:
    """Return what a list of runs says of each."""
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "status": run.status.value,
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "duration_s": run.duration_s,
        "resumed_from": run.resumed_from,
    }


def step_record(step: StepRun, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return one step, or a sub-pipeline."""
    failure = step.failure if step.status == "failed" else None
    return {
        "id": step.id,
        "node": step.node,
        "name": step.name,
        "kind": step.kind,
        "status": step.status.value,
        "reused": step.reused,
        "reused_from": step.reused_from,
        "parent_id": step.parent_id,
        "started_at": iso(step.started_at),
        "ended_at": iso(step.ended_at),
        "duration_s": None if step.reused else step.duration_s,
        "attempts": step.attempts,
        "target": step.target,
        "worker": step.worker,
        "reason": step.reason,
        "effect": step.effect,
        "parameters": dict(step.parameters),
        "metrics": dict(metrics),
        "output": describe(step.artifact),
        "failure": None
        if failure is None
        else {
            "kind": failure.kind.value,
            "message": failure.message,
            "exception": list(failure.exception),
            "traceback": failure.traceback,
        },
    }


def metrics_by_node(rolled_up: Mapping[str, float], nodes: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of each node out of a run's ``node/key``; both halves may hold slashes.

    >>> metrics_by_node({"prep/train[a=1]/test/rmse": 0.5}, ["prep", "prep/train[a=1]"])
    {'prep/train[a=1]': {'test/rmse': 0.5}}
    """
    known = set(nodes)
    found: dict[str, dict[str, float]] = {}
    for text, number in rolled_up.items():
        node = text
        while node and node not in known:
            node = node.rpartition("/")[0]
        if node:
            found.setdefault(node, {})[text[len(node) + 1 :]] = number
    return found


def describe(artifact: Artifact | None) -> str | None:
    """Return in a few words what an output is, without reading it."""
    if artifact is None:
        return None
    from mlflow_pipes import content

    return content.describe(artifact)
