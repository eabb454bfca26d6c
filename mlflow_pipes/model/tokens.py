"""Tokens: what there is a limited number of for all runs of a workspace, and who holds or waits for how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from mlflow_pipes.quick_dataclasses import dataclass

Amounts: TypeAlias = Mapping[str, float]
Units: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A question to the ledger: may a step of a run hold tokens from now on?

    Attributes:
        amounts: how many of each token, by its name.
        limits: how many there are of each of these, as who asks knows it.
        numbered: those of these of which it must be told which ones are given: graphics processors.
        priority: the run's; larger goes first.
        step_priority: the step's, which counts among the steps of its run.
        waited_s: how long its run has waited for tokens like these, without getting any.
    """

    run_id: str
    node: str
    amounts: Amounts
    limits: Amounts
    numbered: tuple[str, ...] = ()
    priority: int = 0
    step_priority: int = 0
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TokensGranted:
    """The step holds them until ``TokensReturned``, or until its run ends or gives no sign of life for too long.

    Attributes:
        units: which ones, of the numbered ones; counted from 0.
    """

    node: str
    units: Units = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokensShort:
    """The step holds none. Until it asks again, or a little longer, it counts as waiting.

    Attributes:
        token: the first, by name, of which too few are free.
        amount: how many of it the step asks for.
        limit: how many there are.
        held_by: run ids and how many each holds.
        before: runs that go first and wait for it, and how many each of these waits for.
    """

    node: str
    token: str
    amount: float
    limit: float
    held_by: tuple[tuple[str, float], ...] = ()
    before: tuple[tuple[str, float], ...] = ()


TokenAnswer: TypeAlias = TokensGranted | TokensShort


@dataclass(frozen=True, slots=True)
class TokensReturned:
    """A record: the step holds no tokens any more, or waits for none."""

    run_id: str
    node: str


@dataclass(frozen=True, slots=True)
class TokensAwaited:
    """A record: a step waited for tokens before it could begin; times are seconds since the epoch.

    Attributes:
        amounts: what it asked for.
    """

    step_run_id: str
    since: float
    until: float
    amounts: Amounts
