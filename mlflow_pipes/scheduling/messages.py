"""What the state machine is told (events) and what it answers (commands)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from mlflow_pipes.model.attempt import Capacity, Failure
from mlflow_pipes.model.graph import GroupNode, StepNode
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tokens import Amounts, Units
from mlflow_pipes.quick_dataclasses import dataclass

# --- events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """The cache has the node's output."""

    node: str


@dataclass(frozen=True, slots=True)
class ToDo:
    """Nobody has the node's output; the key is ours to compute."""

    node: str


@dataclass(frozen=True, slots=True)
class HeldElsewhere:
    """Another live run, or another step of this one, is computing the node's output.

    Attributes:
        by: which, in words.
    """

    node: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """Another run has taken the node's key over, because this one gave no sign of life for too long."""

    node: str


@dataclass(frozen=True, slots=True)
class Unresolvable:
    """The node's arguments cannot be formed: an output lacks the field or item that it asks for, or is not readable.

    Attributes:
        lost_producers: nodes whose outputs turned out to be missing or corrupt; they must run again first.
    """

    node: str
    failure: Failure
    lost_producers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """A worker is about to call the step's code."""

    node: str
    number: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """An attempt's output is stored."""

    node: str
    number: int


@dataclass(frozen=True, slots=True)
class Grew:
    """A node has returned calls of further steps, which stand in it from now on; its output will be made of theirs.

    Attributes:
        number: of the attempt that returned them; None when the cache knew them, or they follow from the inputs.
        nodes, groups: what stands in it, by their ids in the run.
        target_of: name of each node's target.
        ranks: length of each node's critical path in seconds, among *nodes*.
        reused: nothing was run to know them.
    """

    node: str
    number: int | None
    nodes: Mapping[str, StepNode]
    groups: Mapping[str, GroupNode]
    target_of: Mapping[str, str]
    ranks: Mapping[str, float]
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Concluded:
    """The output of a node that grew is put together from those of its calls.

    Attributes:
        failure: why that cannot be done; None when it was.
    """

    node: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt ended without success.

    Attributes:
        lost_producers: nodes whose outputs turned out to be missing or corrupt; they must run again first.
    """

    node: str
    number: int
    failure: Failure
    lost_producers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is now later; retries may be due, held keys may be free, the run may be out of time."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the run to stop, or one step or sub-pipeline of it, with all that is in it.

    Attributes:
        node: id of that step or sub-pipeline; None for the whole run.
    """

    reason: str = "cancelled"
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The node holds the tokens that it asked for.

    Attributes:
        units: which ones, of those that are told apart.
    """

    node: str
    units: Units = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The node is given no tokens now.

    Attributes:
        reason: why, in words.
    """

    node: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TargetOpened:
    """A target is there that calls returned by a step ask for."""

    name: str
    capacity: Capacity


@dataclass(frozen=True, slots=True)
class Resized:
    """A target holds more than before, or less."""

    name: str
    capacity: Capacity


Event: TypeAlias = (
    Known
    | ToDo
    | HeldElsewhere
    | ClaimLost
    | Unresolvable
    | Started
    | Succeeded
    | Grew
    | Concluded
    | Failed
    | TimePassed
    | CancelRequested
    | Granted
    | Refused
    | TargetOpened
    | Resized
)

# --- commands ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookUpNode:
    """All inputs are there: compute the key and ask the cache. Answer: Known, Grew, ToDo, HeldElsewhere, Unresolvable.

    Attributes:
        forget: drop the cache's entry first, its blobs are gone.
    """

    node: str
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Submit:
    """Send an attempt to a target. Answer: Started (perhaps), then Succeeded, Grew or Failed.

    Attributes:
        gpus: numbers of the target's graphics processors that it has to itself.
    """

    node: str
    number: int
    target: str
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AskTokens:
    """Ask for tokens, which are shared with other runs. Answer: Granted, Refused.

    Attributes:
        amounts: how many of each.
        limits: how many there are of each of these.
        numbered: those that are told apart.
        waited_s: how long the run has waited for any of these, without being given one.
    """

    node: str
    amounts: Amounts
    limits: Amounts
    numbered: tuple[str, ...] = ()
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReturnTokens:
    """Give the node's tokens back, or withdraw its request."""

    node: str


@dataclass(frozen=True, slots=True)
class TokensCame:
    """A node was given tokens for which it had waited, to be recorded."""

    node: str
    waited_s: float
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Conclude:
    """All calls that a node returned have ended: put its output together. Answer: Concluded."""

    node: str


@dataclass(frozen=True, slots=True)
class CancelAttempt:
    """Stop an attempt. Its answer still comes."""

    node: str
    number: int
    target: str


@dataclass(frozen=True, slots=True)
class Release:
    """Give the node's claimed key back: there will be no output."""

    node: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A node (or a group) has a new status, to be recorded."""

    node: str
    status: Status
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    status: Status
    message: str = ""


Command: TypeAlias = (
    LookUpNode | Submit | AskTokens | ReturnTokens | TokensCame | Conclude | CancelAttempt | Release | Changed | Finish
)
