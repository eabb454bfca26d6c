"""The ports: few methods and a promise each. Adapters prove them with ``mlflow_pipes.testing``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

# Workers import this module: the records that only orchestrators speak of would cost each of them 30 ms.
if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.attempt import Assignment, AttemptId, Capacity, TargetEvent
    from mlflow_pipes.model.publication import Publication, Receipt
    from mlflow_pipes.model.run import Answer, Heartbeat, Question, Record
    from mlflow_pipes.model.step import FunctionReference


class Datastore(Protocol):
    """Digest -> bytes. Blobs never change; writing the same bytes twice is harmless, also at the same time.

    Raises from every method: ``DatastoreError`` when the store cannot be reached, read or written.
    """

    def put(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Store a stream: hashed and written in one pass, visible only when whole."""
        ...

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for reading. ``BlobMissingError`` when it is not there."""
        ...

    def read(self, digest: Digest) -> memoryview:
        """Return a whole blob, memory-mapped where the store is local.

        ``BlobMissingError`` when it is not there; ``BlobCorruptError`` when the store finds its bytes are not those of
        the digest (checked on the first read by this process).
        """
        ...

    def has(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are there with the right size (bytes are not verified)."""
        ...

    def delete(self, digests: Iterable[Digest]) -> None:
        """Remove blobs; those not there are ignored. Only gc and the treatment of corrupt blobs call this."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """A datastore whose blobs are files of this machine."""

    def path(self, digest: Digest) -> Path:
        """Return the read-only file of a blob. ``BlobMissingError`` when it is not there."""
        ...


@runtime_checkable
class Portable(Protocol):
    """A datastore that another machine can have its own of: blobs are sent between the two."""

    def at(self, folder: str) -> Datastore:
        """Return one of the same kind in a folder, of whatever machine it is sent to."""
        ...

    def refresh(self, digests: Iterable[Digest]) -> None:
        """Have blobs count as written now, as far as they are there: they are in use."""
        ...


@runtime_checkable
class Unverified(Protocol):
    """A datastore that gives a blob's bytes as they are, to who verifies them himself: they are read only once."""

    def open_unverified(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for reading. ``BlobMissingError`` when it is not there."""
        ...


@runtime_checkable
class Resident(Protocol):
    """A datastore that keeps something on each machine where it is used."""

    def stay(self) -> None:
        """Have that stay while this process lives. When the last that called this ends in peace, it is removed.

        Raises nothing.
        """
        ...


@runtime_checkable
class Sweepable(Protocol):
    """A datastore that can list its blobs, for gc."""

    def blobs(self) -> Iterator[tuple[Digest, float]]:
        """Yield each blob with the time it was last written (seconds since the epoch)."""
        ...


class Ledger(Protocol):
    """The truth about runs, and the step cache. Entries may vanish, never lie. Safe for several processes.

    Raises from every method: ``LedgerError`` when the database cannot be used.
    """

    def exchange(self, records: Sequence[Record], questions: Sequence[Question], now: float) -> list[Answer]:
        """In one transaction write *records* in order, then answer *questions*, each at its place.

        Look-ups are answered in order, and claim where asked. Tokens are given to who goes first by
        ``scheduling.sharing``, never more of them than there are.
        """
        ...

    def heartbeat(self, run_id: str, now: float) -> Heartbeat:
        """Tell that the run's orchestrator lives, and with it its claims and tokens; learn what others want of it."""
        ...

    def estimates(self, pipeline: str) -> Mapping[str, float]:
        """Return the last known duration in seconds of the pipeline's nodes, by node id."""
        ...


class Outbox(Protocol):
    """What MLflow has not been told yet. Delivery is at least once here; the publisher makes it exactly once there."""

    def pending(self, destination: str, limit: int) -> list[Publication]:
        """Return up to *limit* runs whose newest revision was not delivered to *destination*, parents first."""
        ...

    def delivered(self, destination: str, receipts: Sequence[Receipt]) -> None:
        """Remember that these revisions were delivered, and under which MLflow run ids."""
        ...


class ComputeTarget(Protocol):
    """A place where attempts run.

    Promise: every submitted attempt is answered by exactly one ``AttemptSucceeded`` or ``AttemptFailed``, sent once
    its work has really stopped; before it at most one ``AttemptStarted``; its log lines all before the answer. After
    ``cancel`` that answer is ``AttemptFailed`` of kind ``CANCELLED``, unless the attempt had already ended. A target
    with a limit of its own for ``timeout_s`` kills the work and answers with kind ``TIMEOUT``.
    """

    name: str

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready to take attempts; *report* may be called from any thread until ``close`` returns."""
        ...

    def capacity(self) -> Capacity:
        """Return what the target can hold at once. The scheduler submits no more than that."""
        ...

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt; returns at once. ``TargetError`` when the target cannot."""
        ...

    def cancel(self, attempt: AttemptId) -> None:
        """Stop an attempt; returns at once. Unknown attempts are ignored."""
        ...

    def close(self) -> None:
        """Stop everything, wait until it has stopped, free what was held. Idempotent."""
        ...


@runtime_checkable
class Polled(Protocol):
    """A target without a thread of its own: the engine's loop waits for its file descriptors.

    Such a target calls ``report`` only from inside ``submit``, ``cancel``, ``poll`` and ``close``.
    """

    def filenos(self) -> Iterable[int]:
        """Return the descriptors whose readability should wake the loop, now."""
        ...

    def poll(self) -> None:
        """Report what has happened, without blocking; also kills attempts that are past their time."""
        ...

    def next_deadline(self) -> float | None:
        """Return when ``poll`` should be called at the latest (``time.monotonic``), None for never."""
        ...


@runtime_checkable
class Warmable(Protocol):
    """A target that can make ready for first attempts before it is known that there will be any.

    Promise: warming is a hint. It returns at once, raises nothing and changes nothing that is reported: what a worker
    writes and raises while it is warmed comes with its first attempt, as if that had done it. What was warmed for
    nothing is gone when ``close`` returns, and does not make that slow.
    """

    def warm(self, functions: Sequence[FunctionReference], environ: Mapping[str, str]) -> None:
        """Make ready for attempts at *functions*, one entry for each expected at once, with their *environ*."""
        ...


@runtime_checkable
class InEnvironments(Protocol):
    """A target that runs attempts with the interpreter and packages of their ``Assignment.environment``.

    Promise: an attempt with an environment runs with that one and no other, or fails with kind ``WORLD``, telling why.

    Attributes:
        runs_environments: true.
    """

    runs_environments: bool


@runtime_checkable
class GivesSpark(Protocol):
    """A target that gives attempts a Spark session where their ``Assignment.wants_spark`` says so.

    Promise: ``spark_session.active_session()`` is one of the attempt's own. What it has under way at Spark is stopped
    before an attempt that was cancelled, or took too long, is answered.

    Attributes:
        gives_spark: true.
    """

    gives_spark: bool


@runtime_checkable
class Managed(Protocol):
    """A target with machines that can be turned on and off by hand, and stay so from run to run.

    Promise: all three may be asked of a target that is not started. Turning on what is on, or off what is off, is
    harmless. ``TargetError`` when it cannot be done.
    """

    def turn_on(self) -> None:
        """Have the machines ready; returns when they are."""
        ...

    def turn_off(self) -> None:
        """Give the machines up, whatever runs there; returns when they are gone."""
        ...

    def is_on(self) -> bool:
        """Tell whether they are ready."""
        ...


@runtime_checkable
class InThisThread(Protocol):
    """A target whose attempts run inside ``poll``, in the loop's own thread, where a debugger can stop them.

    Attributes:
        shows_output: whether what they print is seen as they print it, so that no display should show it again.
    """

    shows_output: bool


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from some zero, never going back; the scale of ``Polled.next_deadline``."""
        ...


class RunObserver(Protocol):
    """Sees what the engine records, as it happens: the terminal's live view, plain progress lines.

    Its errors are logged once and never fail a run.
    """

    def recorded(self, records: Sequence[Record]) -> None:
        """Called after the records are in the ledger."""
        ...

    def seen(self, event: TargetEvent) -> None:
        """Called for events that the ledger does not hold: log lines, progress, starts."""
        ...
