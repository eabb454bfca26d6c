"""What is sent to a compute target for an attempt."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_pipes.digests import digest_record
from mlflow_pipes.engine.recorder import NodeFacts
from mlflow_pipes.fingerprint import reaches_mlflow
from mlflow_pipes.model.attempt import Assignment, AttemptId
from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.model.run import RunStarted
from mlflow_pipes.model.step import CodeFingerprint, FunctionReference, ImportedFunction, PickledFunction


class Assignments:
    """Makes the assignments of one run.

    Args:
        started: of the run.
        step_run_ids: id of each node's run.
        environ: environment variables for every attempt.
    """

    def __init__(self, started: RunStarted, step_run_ids: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self._run_id = started.run_id
        self._first_run_id = started.first_run_id or started.run_id
        self._pipeline = started.pipeline
        self._step_run_ids = step_run_ids
        self._environ = dict(environ)
        self._tracking: dict[str, bool] = {}
        self._versions: dict[str, tuple[tuple[str, str], ...]] = {}

    def of(self, node: StepNode, facts: NodeFacts, number: int, gpus: tuple[int, ...] = ()) -> Assignment:
        """Return the assignment for attempt *number* of a node whose arguments are known."""
        return Assignment(
            attempt=AttemptId(self._run_id, node.id, number),
            pipeline=self._pipeline,
            function=node.step.function,
            arguments=facts.arguments,
            cpus=node.options.cpus,
            memory_bytes=node.options.memory_bytes,
            gpus=gpus,
            timeout_s=node.options.timeout_s,
            environ=self._environ,
            step_run_id=self._step_run_ids[node.id],
            idempotency_key=idempotency_key(self._first_run_id, node.id, facts.key),
            random_seed=int(facts.key[:8], 16),
            tracks_mlflow=self._tracks_mlflow(node.step.code),
            tags=node.options.tags,
            retry_when=_shipped(node.options.retries.when),
            environment=node.step.environment,
            wants_spark=node.step.wants_spark,
            versions=self._versions_of(node.step.code),
        )

    def _tracks_mlflow(self, code: CodeFingerprint) -> bool:
        tracks = self._tracking.get(code.digest)
        if tracks is None:
            tracks = self._tracking[code.digest] = reaches_mlflow(code)
        return tracks

    def _versions_of(self, code: CodeFingerprint) -> tuple[tuple[str, str], ...]:
        versions = self._versions.get(code.digest)
        if versions is None:
            found = [(leaf.name, leaf.digest) for leaf in code.leaves if leaf.kind == "distribution"]
            versions = self._versions[code.digest] = tuple(found)
        return versions


def _shipped(when: object) -> FunctionReference | None:
    assert when is None or isinstance(when, ImportedFunction | PickledFunction), "graphs hold references"
    return when


def idempotency_key(first_run_id: str, node: str, key: str) -> str:
    """Return a key that is the same for all attempts of a step in a run and those that resume it, and no other's."""
    return digest_record("pipes.idempotency/1", (first_run_id, node, key))[:32]
