"""What the state machine is told (events) and what it answers (commands)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mlflow_pipes.model.attempt import Failure
from mlflow_pipes.model.run import Status

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
    """Another live run is computing the node's output."""

    node: str


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
    """Somebody wants the run to stop."""

    reason: str = "cancelled"


Event: TypeAlias = (
    Known
    | ToDo
    | HeldElsewhere
    | ClaimLost
    | Unresolvable
    | Started
    | Succeeded
    | Failed
    | TimePassed
    | CancelRequested
)

# --- commands ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookUpNode:
    """All inputs are there: compute the key and ask the cache. Answer: Known, ToDo, HeldElsewhere, Unresolvable.

    Attributes:
        forget: drop the cache's entry first, its blobs are gone.
    """

    node: str
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Submit:
    """Send an attempt to a target. Answer: Started (perhaps), then Succeeded or Failed."""

    node: str
    number: int
    target: str


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


Command: TypeAlias = LookUpNode | Submit | CancelAttempt | Release | Changed | Finish
