"""What the letters between an orchestrator and a station elsewhere say; besides them, ``Work`` and ``Cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlflow_pipes import content
from mlflow_pipes.content import tree
from mlflow_pipes.model.attempt import AttemptSucceeded

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.artifact import Artifact
    from mlflow_pipes.model.attempt import Assignment, AttemptFailed
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.snapshot import Snapshot
    from mlflow_pipes.targets.station.messages import Setup


class Open(NamedTuple):
    """To the other machine, first: begin a station.

    Attributes:
        setup: with the datastore as it is there.
        has_own_store: that datastore is the other machine's own: blobs are sent.
        slots, gpus: None for what the machine has.
    """

    setup: Setup
    has_own_store: bool
    slots: int | None = None
    gpus: int | None = None


class Opened(NamedTuple):
    """From there: the station has begun, and has this much.

    Attributes:
        now: seconds since the epoch, by the clock there.
    """

    slots: int
    memory_bytes: int
    gpus: int
    host: str
    now: float


class Refused(NamedTuple):
    """From there: there can be no station."""

    message: str


class Told(NamedTuple):
    """From there: events, encoded. The answer of an attempt comes alone, with its blobs."""

    events: bytes


class End(NamedTuple):
    """To the other machine: kill what runs, answer for it, and end."""


class Ended(NamedTuple):
    """From there, last."""


def blobs_of_work(assignment: Assignment, datastore: Datastore) -> set[Digest]:
    """Return the blobs that an attempt's arguments need."""
    found: set[Digest] = set()
    for artifact in assignment.arguments.values():
        found |= content.blobs_of(artifact, datastore)
    return found


def blobs_of_snapshot(snapshot: Snapshot, datastore: Datastore) -> set[Digest]:
    """Return the blobs of a snapshot. Raises ``DatastoreError`` when it cannot be read."""
    return {snapshot.root, *tree.blobs(datastore.read(snapshot.root), datastore)}


def blobs_of_answer(answer: AttemptSucceeded | AttemptFailed, datastore: Datastore) -> set[Digest]:
    """Return the blobs that an answer speaks of: of the output, and of what was logged."""
    artifacts: list[Artifact] = [metric.figure for metric in answer.tracked.metrics if metric.figure is not None]
    if answer.tracked.artifacts is not None:
        artifacts.append(answer.tracked.artifacts)
    if isinstance(answer, AttemptSucceeded):
        artifacts.append(answer.output)
    found: set[Digest] = set()
    for artifact in artifacts:
        found |= content.blobs_of(artifact, datastore)
    return found
