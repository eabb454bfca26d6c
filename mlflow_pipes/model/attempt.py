"""One try at doing a step: what is sent to a compute target and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.environment import ResolvedEnvironment
from mlflow_pipes.model.step import FunctionReference
from mlflow_pipes.model.tracked import NOTHING_TRACKED, Tracked
from mlflow_pipes.quick_dataclasses import dataclass


class AttemptId(NamedTuple):
    """Identity of an attempt: run, node of its graph, number from 1."""

    run_id: str
    node: str
    number: int

    def __str__(self) -> str:
        return f"{self.run_id}/{self.node}#{self.number}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that a worker needs to do one attempt; small, picklable.

    Attributes:
        attempt: which attempt it is.
        pipeline: name of the pipeline, for ``current_run()``.
        function: how to find the function.
        arguments: artifact of each argument.
        cpus, memory_bytes: what it occupies on the target.
        gpus: numbers, from 0, of the target's graphics processors that it has to itself. The target sees to it that it
            sees no others; one that asks for none sees what the target's workers see.
        timeout_s: the worker's process is killed when an attempt takes longer.
        environ: environment variables to set while it runs.
        step_run_id: id of the step's run in the ledger and in MLflow (32 hex digits).
        idempotency_key: same for all attempts of the step in one run and those that resume it.
        random_seed: for code that wants one; derived from the action key.
        tracks_mlflow: the code reaches ``mlflow``: prepare it before the call.
        tags: labels of the step, for ``current_run()``.
        retry_when: tells of an exception whether another attempt is worth it; None when nobody asks.
        environment: interpreter and packages that it runs with; None for those of the target's own workers. Its
            ``command`` and ``environ`` are of the machine that declares the pipeline.
        wants_spark: it must have a Spark session.
        versions: (distribution, version) of what the step's code reaches where it was declared, as its key says.
    """

    attempt: AttemptId
    pipeline: str
    function: FunctionReference
    arguments: Mapping[str, Artifact]
    cpus: float = 1.0
    memory_bytes: int = 0
    gpus: tuple[int, ...] = ()
    timeout_s: float | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    step_run_id: str = ""
    idempotency_key: str = ""
    random_seed: int = 0
    tracks_mlflow: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    retry_when: FunctionReference | None = None
    environment: ResolvedEnvironment | None = None
    wants_spark: bool = False
    versions: tuple[tuple[str, str], ...] = ()


class FailureKind(StrEnum):
    """Why an attempt did not succeed."""

    EXCEPTION = "exception"  # the step's code raised
    UNSTORABLE = "unstorable"  # its output could not be stored
    INPUT = "input"  # an input blob is missing or corrupt: its producer must run again
    SOURCE_CHANGED = "source-changed"  # first-party files differ from those that were fingerprinted
    TIMEOUT = "timeout"
    LOST = "lost"  # the worker died (segfault, os._exit, kill -9, machine gone)
    CANCELLED = "cancelled"
    WORLD = "world"  # store or target failed
    INNER = "inner"  # a call that it returned did not end well


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed, as data.

    Attributes:
        kind: whose fault.
        message: one line, with culprit and, where known, remedy.
        exception: qualified names of the exception's classes, most special first (``("app.Bad", "ValueError",
            "Exception")``; builtins without module).
        traceback: text, the user's own frames first, without ours.
        blobs: for ``INPUT``: the blobs that are missing or corrupt, each as ``str(digest)``.
        worth_retrying: what the step's own predicate says of the exception; None when it has none.
    """

    kind: FailureKind
    message: str
    exception: tuple[str, ...] = ()
    traceback: str = ""
    blobs: tuple[str, ...] = ()
    worth_retrying: bool | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used: processor seconds, peak resident memory in bytes, bytes read and written."""

    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """Sent by a target when an attempt's output is stored."""

    attempt: AttemptId
    output: Artifact
    started_at: float
    ended_at: float
    worker: str = ""
    host: str = ""
    tracked: Tracked = NOTHING_TRACKED
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """Sent by a target when an attempt ended without success, once the work has really stopped."""

    attempt: AttemptId
    failure: Failure
    started_at: float
    ended_at: float
    worker: str = ""
    host: str = ""
    tracked: Tracked = NOTHING_TRACKED
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """Sent by a target when the step's code is about to be called."""

    attempt: AttemptId
    started_at: float
    worker: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of a step's output, one line without its line end.

    Attributes:
        stream: ``stdout``, ``stderr``, ``logging``, ``pipes`` (our own words) or ``progress`` (in a run's log only).
        at: seconds since the epoch, UTC.
    """

    attempt: AttemptId
    stream: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Progress:
    """``current_run().progress(done, total)``."""

    attempt: AttemptId
    done: float
    total: float
    text: str = ""


class GpuUse(NamedTuple):
    """How busy a graphics processor is, and how much of its memory is taken, by whomever."""

    percent: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class UsageSample:
    """What an attempt uses of its machine, told now and then once it has run for a while.

    Attributes:
        at: seconds since the epoch, UTC.
        cpus: how many processors it kept busy, on average since the sample before.
        memory_bytes: resident memory of its process and all that this one started; what they share counts in each.
        gpus: of the graphics processors that it has to itself, where NVIDIA's driver tells.
    """

    attempt: AttemptId
    at: float
    cpus: float
    memory_bytes: int
    gpus: tuple[GpuUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a target can hold at once.

    Attributes:
        cpus: sum of ``cpus`` of concurrent attempts.
        memory_bytes: sum of ``memory_bytes`` of concurrent attempts; 0 for unlimited.
        slots: number of concurrent attempts.
        gpus: how many graphics processors there are for concurrent attempts; infinity where any number may be asked
            for, and the target gives none or its own: what an assignment names then says only how many.
        ahead: how many of the slots are for attempts that wait there, so that nothing stands still until it is sent
            more.
    """

    cpus: float
    memory_bytes: int = 0
    slots: int = 1
    gpus: float = 0
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    """Sent by a target that holds more than it said before, or less: workers came, or left for good.

    Attributes:
        target: its name.
    """

    target: str
    capacity: Capacity


TargetEvent: TypeAlias = (
    AttemptStarted | AttemptSucceeded | AttemptFailed | LogLine | Progress | UsageSample | CapacityChanged
)
