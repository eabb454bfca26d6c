"""Every error that mlflow_pipes raises, by whose fault it is.

::

    PipesError
    ├── DeclarationError        what the user wrote is wrong; nothing has run
    │   ├── GraphError          the graph: names, cycles, unknown nodes, wrong use of a reference
    │   ├── ArgumentError       a step call's arguments: missing, unknown, of the wrong type
    │   ├── FingerprintError    code or a value that cannot be fingerprinted
    │   ├── ConfigurationError  pipes.toml, options, environment variables
    │   └── NotFoundError       a run, step, service, file ... that is not there (near names are suggested)
    ├── StepError               a step's own code failed
    │   ├── UnstorableOutputError  what the step returned cannot be stored or is not what it declared
    │   └── RunFailed           the run ended without success; carries the Run
    ├── WorldError              store, network, disk, worker: may be well again on another try
    │   ├── DatastoreError      a datastore cannot be read or written
    │   │   └── BlobError           a blob cannot be used; names it
    │   │       ├── BlobMissingError    it is not there
    │   │       └── BlobCorruptError    its bytes are not those of its digest
    │   ├── LedgerError         the ledger cannot be read or written
    │   ├── TargetError         a compute target cannot take or finish an attempt
    │   ├── ServiceError        a web service does not start, answer or stop
    │   └── TrackingError       MLflow did not take what we have for it
    └── InternalError           our bug

Exit codes of the command line follow the same tree (see docs/reference/exit-codes.md).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class PipesError(Exception):
    """Base of all errors raised on purpose by mlflow_pipes."""

    exit_code = 70


class DeclarationError(PipesError):
    """What the user wrote is wrong; nothing has run."""

    exit_code = 2


class GraphError(DeclarationError):
    """The declared graph is wrong: names, cycles, or a reference used as a value."""


class ArgumentError(DeclarationError, TypeError):
    """The arguments of a step or pipeline call are missing, unknown or of the wrong type."""


class FingerprintError(DeclarationError):
    """Code or a value that cannot be fingerprinted; names it and the ways out."""


class ConfigurationError(DeclarationError):
    """A configuration file, option or environment variable is wrong."""


class NotFoundError(DeclarationError, LookupError):
    """Something named by the user is not there."""

    exit_code = 4


class StepError(PipesError):
    """A step's own code failed."""

    exit_code = 1


class UnstorableOutputError(StepError):
    """A step's output cannot be stored, or is not what the step declared."""


class RunFailed(StepError):  # noqa: N818 - the name is public API
    """A run ended without success.

    Attributes:
        run: the ended ``Run``; its steps carry the failures.
    """

    def __init__(self, message: str, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class WorldError(PipesError):
    """The world failed: store, network, disk, worker. Another try may succeed."""

    exit_code = 75


class DatastoreError(WorldError):
    """A datastore cannot be read or written."""


class BlobError(DatastoreError):
    """A blob cannot be used.

    Attributes:
        blob: ``str(digest)`` of the blob; empty where it is not known.
    """

    def __init__(self, message: str, blob: object = "") -> None:
        super().__init__(message)
        self.blob = str(blob)


class BlobMissingError(BlobError):
    """A blob is not in its datastore."""


class BlobCorruptError(BlobError):
    """A blob's bytes are not those of its digest."""


class LedgerError(WorldError):
    """The ledger cannot be read or written."""


class TargetError(WorldError):
    """A compute target cannot take or finish an attempt."""


class ServiceError(WorldError):
    """A web service does not start, answer or stop."""


class TrackingError(WorldError):
    """MLflow did not take what we have for it."""


class InternalError(PipesError):
    """A state that our code holds to be impossible: please report it."""


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'train'?"`` for the nearest known name, or an empty string.

    >>> suggest("trian", ["train", "test"])
    "; did you mean 'train'?"
    """
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
