"""What orchestrators and stations say to each other: pickled, bytes in and bytes out."""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import Assignment, AttemptId, TargetEvent
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.snapshot import Snapshot


class Setup(NamedTuple):
    """What all attempts of one orchestrator's target share.

    Attributes:
        name: the target's.
        datastore: pickled.
        workspace: the workspace's folder, for ``current_run()``.
        environ: environment variables of the workers, over the station's own.
        versions: of what must agree on both sides.
    """

    name: str
    datastore: bytes
    workspace: str
    environ: Mapping[str, str]
    versions: tuple[tuple[str, str], ...]


class Work(NamedTuple):
    """To a station: do an attempt.

    Attributes:
        snapshot: pickled; holds the code that it needs.
        assignment: what to do, without its functions.
        function, retry_when: pickled references, as they travel with the snapshot. The same bytes come with each
            attempt at a step, so that a station knows a function again.
    """

    snapshot: bytes
    assignment: Assignment
    function: bytes
    retry_when: bytes | None


class Cancel(NamedTuple):
    """To a station: stop an attempt; one that it does not know will be stopped when it comes."""

    attempt: AttemptId


Message: TypeAlias = "Work | Cancel"


def versions_here() -> tuple[tuple[str, str], ...]:
    """Return the versions of what must agree: code objects and pickles of one are not those of another."""
    return (
        ("Python", f"{sys.version_info.major}.{sys.version_info.minor}"),
        ("mlflow_pipes", version("mlflow_pipes")),
    )


def setup_of(name: str, datastore: Datastore, workspace: str, environ: Mapping[str, str]) -> Setup:
    """Return the setup of a target. Raises what pickling the datastore raises."""
    return Setup(name, pickle.dumps(datastore, 5), workspace, dict(environ), versions_here())


def disagreement(setup: Setup) -> str:
    """Return which versions differ here from the orchestrator's; empty when all agree."""
    here = dict(versions_here())
    return "; ".join(
        f"{name} is {here.get(name, 'absent')} here and {wanted} where the run was started"
        for name, wanted in setup.versions
        if here.get(name) != wanted
    )


def other_versions(wanted: Sequence[tuple[str, str]]) -> str:
    """Return which of these distributions are not here in the version that is named; empty when all are."""
    found = [(name, known, _installed(name)) for name, known in wanted]
    return "; ".join(
        f"{name} is {here or 'not'} here and {known} where the run was started"
        for name, known, here in found
        if here != known
    )


@functools.cache
def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


class Packer:
    """Makes messages of assignments; what attempts at one step share is pickled once.

    Args:
        shipped: gives the snapshot that holds a function's code, and the function as it travels with it.
    """

    def __init__(self, shipped: Any) -> None:
        self._shipped = shipped
        self._functions: dict[int, tuple[FunctionReference, bytes]] = {}
        self._snapshot: tuple[Snapshot, bytes] | None = None

    def pack(self, assignment: Assignment) -> bytes:
        """Return the message that has an attempt done. Raises what ``Snapshots.shipped`` raises."""
        retry_when = assignment.retry_when
        packed_retry = None if retry_when is None else self._packed(retry_when)[1]
        snapshot, function = self._packed(assignment.function)
        bare = replace(assignment, function=None, retry_when=None, arguments=dict(assignment.arguments))  # type: ignore[arg-type]
        return pickle.dumps(Work(snapshot, bare, function, packed_retry), 5)

    def _packed(self, function: FunctionReference) -> tuple[bytes, bytes]:
        snapshot, travelling = self._shipped(function)
        if self._snapshot is None or self._snapshot[0] is not snapshot:
            self._snapshot = (snapshot, pickle.dumps(snapshot, 5))
        known = self._functions.get(id(function))
        if known is None:
            known = self._functions[id(function)] = (function, pickle.dumps(travelling, 5))
        return self._snapshot[1], known[1]


def encode_events(events: Sequence[TargetEvent]) -> bytes:
    """Return events as bytes."""
    return pickle.dumps(list(events), 5)


def decode_events(message: bytes) -> list[TargetEvent]:
    """Return the events that were encoded."""
    events: list[TargetEvent] = pickle.loads(message)
    return events
