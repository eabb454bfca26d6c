"""Resuming a run: what it left is taken over by a new run, which is linked to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_pipes.digests import digest_record
from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.model.resumption import Resumption, StoredCall
from mlflow_pipes.model.run import Held, LookUp, RunStarted, Status

if TYPE_CHECKING:
    from mlflow_pipes.ports import Ledger
    from mlflow_pipes.workspace.records import Run
    from mlflow_pipes.workspace.workspace import Workspace

_REMEDY = "run it from where it was called, where the call is at hand: run(..., resume={id!r})"


def call_of_run(home: Workspace, run: Run) -> StoredCall:
    """Return how a run's call can be declared again.

    Raises:
        DeclarationError: it cannot; says why, and what to do instead.
    """
    from mlflow_pipes.workspace.ledger.resumptions import stored_call

    stored = stored_call(home.ledger.database, run.id)
    problem = "it was recorded by an older version" if stored is None else stored.problem
    if stored is None or problem:
        remedy = _REMEDY.format(id=run.id[:8])
        raise DeclarationError(f"the call of run {run.id[:8]} of {run.pipeline} is not kept: {problem}; {remedy}")
    return stored


def check_resumable(home: Workspace, run: Run, pipeline: str) -> None:
    """Check that a run of *pipeline* may resume *run*.

    Raises:
        DeclarationError: the run lives, succeeded, is resumed by one that lives, or is of another pipeline.
    """
    from mlflow_pipes.workspace.ledger.resumptions import under_way

    short = run.id[:8]
    if pipeline != run.pipeline:
        raise DeclarationError(f"run {short} is of {run.pipeline}, so a run of {pipeline} cannot resume it")
    if run.status is Status.SUCCEEDED:
        raise DeclarationError(f"run {short} of {run.pipeline} succeeded: there is nothing to resume; run it again")
    for alive in under_way(home.ledger.database, run.first_run_id):
        which = f"of {run.pipeline} is" if alive == run.id else f"resumes {short} and is"
        raise DeclarationError(
            f"run {alive[:8]} {which} still under way; wait for its end, or stop it: pipes cancel {alive[:8]} --wait 60"
        )


def resumption_of(home: Workspace, run: Run) -> Resumption:
    """Return what a run that resumes *run* takes over."""
    from mlflow_pipes.workspace.ledger.resumptions import resumption

    return resumption(home.ledger.database, run.id, run.first_run_id)


def only_one_resumes(ledger: Ledger, started: RunStarted) -> None:
    """See to it that no other run resumes the same while this one lives: two would do each effect twice.

    It is held as the key of a step is, by the run that begins: a claim dies with its run.

    Raises:
        DeclarationError: another one does.
    """
    line = digest_record("pipes.resume/1", (started.first_run_id,))
    (answer,) = ledger.exchange([], [LookUp(line, started.run_id)], started.started_at)
    if isinstance(answer, Held):
        raise DeclarationError(
            f"run {started.resumed_from[:8]} is resumed by run {answer.run_id[:8]} on {answer.host} at this moment"
        )
