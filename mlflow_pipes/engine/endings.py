"""What steps that accept failures, and exit hooks, are told of how others ended."""

from __future__ import annotations

from mlflow_pipes.model.outcome import RunOutcome, StepFailure
from mlflow_pipes.model.run import RunStarted, Status
from mlflow_pipes.scheduling.state import RunState


def failure_of(state: RunState, node: str) -> StepFailure:
    """Return the failure of a node that ended badly."""
    failure, status = state.failures[node], state.status[node]
    if status is not Status.FAILED:
        return StepFailure(node, status.value, failure.message)
    return StepFailure(node, "failed", failure.message, failure.kind.value, failure.exception)


def outcome_of(state: RunState, started: RunStarted) -> RunOutcome:
    """Return how a run went whose steps have all ended."""
    assert state.outcome is not None, "asked for by hooks only"
    failed = [node for node in state.failures if state.status[node] is Status.FAILED]
    return RunOutcome(
        run_id=started.run_id,
        pipeline=started.pipeline,
        status=state.outcome.value,
        message=state.message,
        failures=tuple([failure_of(state, node) for node in failed]),
    )
