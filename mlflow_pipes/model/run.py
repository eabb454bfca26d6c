"""The history of runs: statuses, and the records that the engine hands to the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import Failure, Usage, UsageSample
from mlflow_pipes.model.resumption import StoredCall
from mlflow_pipes.model.step import CodeFingerprint
from mlflow_pipes.model.tokens import TokenAnswer, TokenRequest, TokensAwaited, TokensReturned
from mlflow_pipes.model.tracked import Tracked
from mlflow_pipes.quick_dataclasses import dataclass


class Status(StrEnum):
    """Where a step's run, or a whole run, stands."""

    WAITING = "waiting"  # for its inputs
    LOOKING_UP = "looking-up"  # its key is known; the cache is asked, or another run holds the key
    QUEUED = "queued"  # must run; waits for room on its target
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"  # something upstream failed
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its orchestrator died; found by a later process

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in ENDED

    @property
    def good(self) -> bool:
        """Whether its output is there."""
        return self in GOOD


ENDED = frozenset(
    {Status.SUCCEEDED, Status.REUSED, Status.FAILED, Status.SKIPPED, Status.CANCELLED, Status.INTERRUPTED}
)
GOOD = frozenset({Status.SUCCEEDED, Status.REUSED})


@dataclass(frozen=True, slots=True)
class SourceState:
    """The project's git state when a run started; empty strings where there is no repository."""

    commit: str = ""
    branch: str = ""
    remote: str = ""
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run exists. Written first.

    Attributes:
        run_id: 32 hex digits; also the id of its MLflow run where we own the store.
        parameters: of the pipeline call, as short texts.
        process: ``pid:start time`` of the orchestrator, to tell a dead one from a reused pid.
        resumed_from: id of the run that it resumes, first_run_id: of the first in that line; empty for neither.
        call: how to declare it again; None where nobody may want to.
    """

    run_id: str
    pipeline: str
    experiment: str
    started_at: float
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    process: str = ""
    user: str = ""
    target: str = ""
    source: SourceState = SourceState()
    file: str = ""
    doc: str = ""
    command: str = ""
    resumed_from: str = ""
    first_run_id: str = ""
    call: StoredCall | None = None


@dataclass(frozen=True, slots=True)
class StepDeclared:
    """A step or a sub-pipeline stands in the run, waiting.

    Attributes:
        step_run_id: 32 hex digits; also its MLflow run's id where we own the store.
        node: id in the graph. name: the step's (or sub-pipeline's) name.
        kind: ``step`` or ``pipeline``.
        parent_id: step_run_id of the group it stands in, or the run's id.
        parameters: plain constants among its arguments, as short texts.
        parents: node ids it waits for, to draw the graph.
        position: order of declaration, from 0.
        effect: declared with ``reuse="never"``: each of its attempts may change the world.
        named_by: who named its target, in words; empty where nobody did, and it goes where the run's steps go.
    """

    run_id: str
    step_run_id: str
    node: str
    name: str
    kind: str
    parent_id: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    position: int = 0
    effect: bool = False
    named_by: str = ""


class StepChanged(NamedTuple):
    """A step's run has a new status; fields left None keep their value.

    Attributes:
        key: action key. code: digest of the code fingerprint; inputs: identity of each argument by name.
            Together they are what ``explain`` compares.
        output: artifact of the step's output.
        reused_from: step_run_id of the run that computed the output.
        reason: one line: why it ran, was skipped, failed.
    """

    run_id: str
    step_run_id: str
    status: Status
    at: float
    key: str | None = None
    code: str | None = None
    inputs: Mapping[str, str] | None = None
    output: Artifact | None = None
    reused_from: str | None = None
    reason: str | None = None
    target: str | None = None
    worker: str | None = None
    started_at: float | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """One attempt is over. ``failure`` is None for the one that succeeded.

    Attributes:
        output: of a step with an effect, what the attempt itself returned (calls of steps stay calls): a run that
            resumes this one takes it instead of doing the effect again.
    """

    run_id: str
    step_run_id: str
    number: int
    started_at: float
    ended_at: float
    target: str = ""
    worker: str = ""
    host: str = ""
    failure: Failure | None = None
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()
    output: Artifact | None = None


@dataclass(frozen=True, slots=True)
class AttemptSampled:
    """What an attempt under way uses of its machine."""

    run_id: str
    step_run_id: str
    sample: UsageSample


@dataclass(frozen=True, slots=True)
class StepTracked:
    """What the deciding attempt of a step logged."""

    run_id: str
    step_run_id: str
    tracked: Tracked


@dataclass(frozen=True, slots=True)
class OutputCached:
    """The step cache has an entry: from now on *key* means *output*. Ends the claim *token*.

    Attributes:
        reuse: False for ``reuse="never"``: recorded for lineage, never answered as a hit.
    """

    key: str
    output: Artifact
    step_run_id: str
    pipeline: str
    node: str
    made_at: float
    duration_s: float
    token: int = 0
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class KeyReleased:
    """A claim ends without an output; whoever waits for the key may do the work."""

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class EntryForgotten:
    """A cache entry is dropped, because its blobs are gone or corrupt."""

    key: str


@dataclass(frozen=True, slots=True)
class CodeSeen:
    """The leaves of a code fingerprint, so that ``explain`` can name what changed."""

    code: CodeFingerprint


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is over. Written last."""

    run_id: str
    status: Status
    ended_at: float
    output: Artifact | None = None
    message: str = ""


Record: TypeAlias = (
    RunStarted
    | StepDeclared
    | StepChanged
    | AttemptEnded
    | AttemptSampled
    | StepTracked
    | OutputCached
    | KeyReleased
    | EntryForgotten
    | CodeSeen
    | TokensReturned
    | TokensAwaited
    | RunEnded
)


class LookUp(NamedTuple):
    """A question to the step cache.

    Attributes:
        key: action key.
        run_id: who asks.
        claim: when there is no entry, claim the key for *run_id* (single flight).
        max_age_s: an entry made longer ago does not count; None for any age.
    """

    key: str
    run_id: str
    claim: bool = True
    max_age_s: float | None = None


class Hit(NamedTuple):
    """The output is known."""

    key: str
    output: Artifact
    step_run_id: str
    made_at: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """No entry; the asker now holds the key and must end it with OutputCached or KeyReleased.

    Attributes:
        token: fencing token, grows with every claim of the workspace.
    """

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class Held:
    """No entry yet; another live run is computing it."""

    key: str
    run_id: str
    host: str
    process: str


@dataclass(frozen=True, slots=True)
class Miss:
    """No entry; nothing was claimed because the question did not ask to."""

    key: str


CacheAnswer: TypeAlias = Hit | Claimed | Held | Miss

Question: TypeAlias = LookUp | TokenRequest
Answer: TypeAlias = CacheAnswer | TokenAnswer


@dataclass(frozen=True, slots=True)
class CancelStep:
    """Somebody wants a step or sub-pipeline of a run to stop, with all that is in it."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the ledger answers to a sign of life.

    Attributes:
        cancel_requested: another process asked to cancel the run; reason: why, where it said so.
        lost_tokens: fencing tokens of claims that someone took over.
        cancel_steps: all that others ever asked to stop of the run, in that order; told again with every answer.
    """

    cancel_requested: bool = False
    lost_tokens: Sequence[int] = ()
    reason: str = ""
    cancel_steps: Sequence[CancelStep] = ()
