"""One attempt, on any compute target: find the function, load, call, store, tell."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_pipes import content
from mlflow_pipes.authoring.declaration import Declaration, Scope, entered
from mlflow_pipes.digests import digest_record
from mlflow_pipes.errors import BlobError, DatastoreError, DeclarationError, TargetError, UnstorableOutputError
from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, Failure, FailureKind
from mlflow_pipes.model.tracked import NOTHING_TRACKED
from mlflow_pipes.spark_session import active_session, close_session
from mlflow_pipes.worker import failures
from mlflow_pipes.worker.clusters import join_clusters
from mlflow_pipes.worker.context import RunContext, active, last_part
from mlflow_pipes.worker.functions import FoundFunction, Functions
from mlflow_pipes.worker.mlflow_calls import MlflowCalls
from mlflow_pipes.worker.outputs import as_declared
from mlflow_pipes.worker.returned_calls import forgotten_calls, returned_calls
from mlflow_pipes.worker.sources import SourceChangedError
from mlflow_pipes.worker.usage import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from mlflow_pipes.model.artifact import Artifact
    from mlflow_pipes.model.attempt import Assignment, TargetEvent
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore

_functions = Functions()


def scratch_folder(assignment: Assignment, scratch: Path) -> Path:
    """Return the folder of one attempt below the target's scratch folder; whoever ends the attempt removes it."""
    step_run_id = assignment.step_run_id or digest_record("pipes.scratch/1", tuple(assignment.attempt))[:32]
    return scratch / f"{step_run_id}.{assignment.attempt.number}"


def warm(functions: Iterable[FunctionReference], environ: Mapping[str, str]) -> None:
    """Import what *functions* are found in, as their attempts would, up to the first failure; raises nothing."""
    with _environment(environ):
        for function in functions:
            if not _functions.warm(function):
                return


def execute(
    assignment: Assignment,
    datastore: Datastore,
    *,
    checkout: Path,
    scratch: Path,
    workspace: str = "",
    emit: Callable[[TargetEvent], None],
) -> AttemptSucceeded | AttemptFailed:
    """Do one attempt in this thread and return how it ended; raises nothing that the step's code raises.

    Args:
        assignment: what to do.
        datastore: where inputs are read and the output is stored.
        checkout: folder where input files and folders are laid out for reading.
        scratch: folder in which attempts have their temporary folders.
        workspace: the workspace's folder, for ``current_run()``.
        emit: told of progress, from any thread of the step.
    """
    started_at = time.time()
    meter = Meter()
    folder = scratch_folder(assignment, scratch)
    context = RunContext(assignment, folder=folder, emit=emit, datastore=datastore, workspace=workspace)
    calls = MlflowCalls(assignment, folder)
    logged = _Logged()
    with _environment(assignment.environ), active(context):
        ended = _attempt(assignment, datastore, checkout, calls, logged)
        close_session()
    if calls.begun or context.has_scratch:
        shutil.rmtree(folder, ignore_errors=True)
    tracked = logged.tracked
    if context.metrics:
        tracked = replace(tracked, metrics=(*tracked.metrics, *context.metrics))
    common: dict[str, Any] = {
        "started_at": started_at,
        "ended_at": time.time(),
        "tracked": tracked,
        "usage": meter.usage(),
        "warnings": tuple(logged.warnings),
    }
    if isinstance(ended, Failure):
        return AttemptFailed(assignment.attempt, ended, **common)
    return AttemptSucceeded(assignment.attempt, ended, **common)


class _Logged:
    """What is known about an attempt besides how it ended."""

    __slots__ = ("tracked", "warnings")

    def __init__(self) -> None:
        self.tracked = NOTHING_TRACKED
        self.warnings: list[str] = []


def _attempt(
    assignment: Assignment, datastore: Datastore, checkout: Path, calls: MlflowCalls, logged: _Logged
) -> Artifact | Failure:
    name = last_part(assignment.attempt.node)
    try:
        found = _functions.find(assignment.function)
    except SourceChangedError as error:
        return Failure(FailureKind.SOURCE_CHANGED, str(error))
    except BaseException as error:  # noqa: BLE001 - a user's module may raise anything, also SystemExit
        return failures.of_exception(error)
    try:
        join_clusters(assignment)
    except TargetError as error:
        return failures.of_exception(error)
    arguments = _loaded(found, assignment.arguments, datastore, checkout)
    if isinstance(arguments, Failure):
        return arguments
    declaration = Declaration(name, "step")
    try:
        calls.begin()
        with entered(Scope(declaration)):  # calls of further steps that it makes are declared, as in a pipeline
            value = found.call(arguments)
    except BaseException as error:  # noqa: BLE001 - a step may raise anything, also SystemExit
        return _of_step(error, assignment, datastore, logged)
    finally:
        arguments.clear()  # frees the inputs before the output is encoded
        _keep_logged(calls, datastore, logged)
    return _stored(value, found, datastore, declaration, assignment, logged)


def _of_step(error: BaseException, assignment: Assignment, datastore: Datastore, logged: _Logged) -> Failure:
    """Return the failure of a step's own code, or of an input that it read in parts and that is lost."""
    lost = content.blob_error_in(error)
    if lost is not None and any(
        lost.blob in map(str, content.blobs_of(artifact, datastore)) for artifact in assignment.arguments.values()
    ):
        return Failure(FailureKind.INPUT, str(lost), blobs=_unusable(lost, assignment.arguments, datastore))
    return _judged(failures.of_exception(error), error, assignment, logged)


def _judged(failure: Failure, error: BaseException, assignment: Assignment, logged: _Logged) -> Failure:
    """Ask the step's own predicate whether another attempt is worth it."""
    if assignment.retry_when is None or failure.kind is not FailureKind.EXCEPTION:
        return failure
    try:
        worth = bool(_functions.find(assignment.retry_when).function(error))
    except BaseException as other:  # noqa: BLE001 - it is the user's code
        why = failures.of_exception(other).message
        logged.warnings.append(f"retry_if failed, so there is no other attempt: {why}")
        worth = False
    return replace(failure, worth_retrying=worth)


def _stored(  # noqa: PLR0911 - one a kind of failure
    value: Any,
    found: FoundFunction,
    datastore: Datastore,
    declaration: Declaration,
    assignment: Assignment,
    logged: _Logged,
) -> Artifact | Failure:
    name = declaration.name
    try:
        if declaration.calls:
            growth = returned_calls(value, declaration, assignment.function, datastore)
            logged.warnings += filter(None, [forgotten_calls(declaration, growth)])
            if growth is not None:
                return content.store(growth, datastore, name=f"calls returned by {name}")
        return content.store(as_declared(value, found.returns, name), datastore, name=f"output of {name}")
    except content.ComputingError as error:
        return _of_step(error.cause, assignment, datastore, logged)
    except UnstorableOutputError as error:
        return replace(failures.of_exception(error, FailureKind.UNSTORABLE), message=str(error))
    except BlobError as error:
        return _of_step(error, assignment, datastore, logged)
    except DatastoreError as error:
        return replace(failures.of_exception(error), message=str(error))
    except DeclarationError as error:
        return failures.of_exception(error)
    except BaseException as error:  # noqa: BLE001 - encoding runs code of the value's class
        return failures.of_exception(error, FailureKind.UNSTORABLE)


def _keep_logged(calls: MlflowCalls, datastore: Datastore, logged: _Logged) -> None:
    try:
        logged.tracked = calls.finish(datastore)
    except Exception as error:  # noqa: BLE001 - what was logged must not fail work that is done
        cause = failures.of_exception(error).message
        logged.warnings.append(f"what this attempt logged through mlflow is lost: {cause}")


def _loaded(
    found: FoundFunction, artifacts: Mapping[str, Artifact], datastore: Datastore, checkout: Path
) -> dict[str, Any] | Failure:
    arguments = {}
    for name, artifact in artifacts.items():
        try:
            arguments[name] = content.load(artifact, datastore, found.wanted.get(name, Any), checkout=checkout)
        except BlobError as error:
            blobs = _unusable(error, artifacts, datastore)
            return Failure(FailureKind.INPUT, f"argument {name!r}: {error}", blobs=blobs)
        except BaseException as error:  # noqa: BLE001 - decoding runs code of the value's class
            failure = failures.of_exception(error)
            return replace(failure, message=f"argument {name!r} cannot be loaded: {failure.message}")
    try:
        for name in found.sessions - arguments.keys():
            arguments[name] = active_session()
    except TargetError as error:
        return replace(failures.of_exception(error, FailureKind.WORLD), message=str(error))
    return arguments


def _unusable(error: BlobError, artifacts: Mapping[str, Artifact], datastore: Datastore) -> tuple[str, ...]:
    """Return the blob that the error names, and all that the arguments need and are not there."""
    found = {error.blob}
    for artifact in artifacts.values():
        try:
            needed = content.blobs_of(artifact, datastore)
            found.update(str(digest) for digest in needed - datastore.has(needed))
        except BlobError as other:
            found.add(other.blob)
    return tuple(sorted(found - {""}))


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
