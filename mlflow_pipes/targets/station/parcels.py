"""What is sent to a station that an attempt may be done there: its message, and blobs; and why that did not go well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.attempt import FailureKind
from mlflow_pipes.snapshot.taking import Snapshots
from mlflow_pipes.targets.station.letters import blobs_of_snapshot, blobs_of_work
from mlflow_pipes.targets.station.messages import Packer
from mlflow_pipes.worker.sources import SourceChangedError

if TYPE_CHECKING:
    from mlflow_pipes.content import FileMemo
    from mlflow_pipes.model.attempt import Assignment, Failure
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.station.mailbox import Absence


class Parcels:
    """Makes what is sent of the attempts of one run. Not thread-safe.

    Args:
        datastore: where inputs are, and snapshots go.
        memo: digests of files hashed before.
        folders: of the workspace, which are no code; an empty text is none.
    """

    def __init__(self, datastore: Datastore, memo: FileMemo | None, folders: Iterable[str | Path]) -> None:
        self._datastore = datastore
        beside = getattr(datastore, "folder", None)
        self._snapshots = Snapshots(datastore, memo, [Path(one) for one in (*folders, beside) if one])
        self._packer = Packer(self._snapshots.shipped)
        self._code: dict[Digest, set[Digest]] = {}  # by the snapshot's root

    def message(self, assignment: Assignment) -> bytes:
        """Return the message that has an attempt done; :func:`why_unsent` knows what this raises."""
        return self._packer.pack(assignment)

    def blobs(self, assignment: Assignment) -> set[Digest]:
        """Return the blobs that an attempt needs there: of its code and its inputs."""
        snapshot, _ = self._snapshots.shipped(assignment.function)
        code = self._code.get(snapshot.root)
        if code is None:
            code = self._code[snapshot.root] = blobs_of_snapshot(snapshot, self._datastore)
        return code | blobs_of_work(assignment, self._datastore)


def why_unsent(error: Exception, where: str) -> tuple[FailureKind, str]:
    """Return how an attempt failed that could not be sent, and in which words; *where* is who was to do it."""
    if isinstance(error, SourceChangedError):
        return FailureKind.SOURCE_CHANGED, str(error)
    if isinstance(error, PipesError):
        return FailureKind.WORLD, str(error)
    return FailureKind.WORLD, f"cannot be sent to {where}: {error}"  # such as arguments that cannot be pickled


def why_undelivered(absent: Mapping[Digest, Absence], where: str) -> str:
    """Return why an attempt failed that was done, but whose output did not come from there."""
    return f"what it made on {where} did not get here: {next(iter(absent.values())).why}"


def spoilt_there(failure: Failure, datastore: Datastore) -> Sequence[Digest]:
    """Return the inputs that an attempt could not read there and that are all in *datastore*: they can be sent again.

    Nothing when they are not, or when it failed for another reason.
    """
    if failure.kind is FailureKind.INPUT:
        with suppress(PipesError, ValueError):
            blobs = [Digest.parse(blob) for blob in failure.blobs]
            if datastore.has(blobs) == set(blobs):
                return blobs
    return ()
