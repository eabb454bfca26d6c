"""For what a step waited, and how long, derived from when it and the steps around it ran; pure.

The ledger keeps when attempts began and ended, not when a step became ready: that is when the last of its inputs was
there. What passed after that was a wait for a key that another run held, for room on the target (a step left it
meanwhile), or for the target to begin. Waits for tokens it does keep.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from mlflow_pipes.model.run import Status
from mlflow_pipes.quick_dataclasses import dataclass

WORTH_TELLING_S = 0.05
"""Shorter waits are the overhead of any step."""

_AT_ONCE_S = 5.0
"""A worker has begun so long after its step was given tokens, at the latest: it may have to be started."""

Kind: TypeAlias = Literal["inputs", "key", "room", "tokens", "retry", "target"]


@dataclass(frozen=True, slots=True)
class Wait:
    """One wait of a step; times are seconds since the epoch.

    Attributes:
        kind: for its ``inputs``; for a ``key`` that another step or run was computing; for ``room`` on its target; for
            ``tokens`` that runs share; for the next attempt (``retry``); or for the ``target`` to begin, with nothing
            else in the way.
        until: None while it lasts.
        on: what ended it: the input that came last, the step that left the target. While it lasts: the inputs that are
            not there, the steps that fill the target. For a key the ids of the runs that were computing it. For tokens
            which, in words, and while it lasts who has them.
        certain: False where the ledger does not tell, and this is the likeliest.
    """

    kind: Kind
    since: float
    until: float | None
    on: tuple[str, ...] = ()
    certain: bool = True

    def seconds(self, now: float) -> float:
        """Return how long it took, or has taken by *now*."""
        return max(0.0, (now if self.until is None else self.until) - self.since)


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What the ledger knows of when a step was where.

    Attributes:
        target: where it runs; where it is not known yet, where it ran last.
        start: when its first attempt began, or None; for a reused step when it was reused.
        attempts: (start, end) of each attempt that has ended, in order.
        short: for which tokens it waits now, in words; empty when it does not.
        token_waits: (since, until, tokens in words) of each wait for tokens that is over, in order.
    """

    node: str
    status: Status
    parents: tuple[str, ...] = ()
    target: str = ""
    start: float | None = None
    end: float | None = None
    attempts: tuple[tuple[float, float], ...] = ()
    short: str = ""
    token_waits: tuple[tuple[float, float, str], ...] = ()


def waits_of(
    step: StepTimes,
    steps: Mapping[str, StepTimes],
    begin: float,
    now: float,
    holders: Sequence[tuple[str, float, float | None]] = (),
    *,
    certain: bool = True,
) -> list[Wait]:
    """Return the waits of a step that are worth telling, first to last; the last may still last.

    Args:
        step: one of *steps*.
        steps: of its run, by node.
        begin: when the run began.
        now: the present moment; what lasts has lasted until then.
        holders: (run id, from, to or None) of others that computed the step's key.
        certain: whether the holders are known by the key, not only by the step's name.

    Cost: O(steps).
    """
    if step.status in {Status.SKIPPED, Status.CANCELLED, Status.INTERRUPTED} and step.start is None:
        return []
    missing = tuple(node for node in step.parents if node in steps and not steps[node].status.good)
    if missing and step.start is None:
        return [Wait("inputs", begin, None, missing)]
    last = max(
        (steps[node] for node in step.parents if node in steps), key=lambda one: _known(one.end, begin), default=None
    )
    ready = begin if last is None else max(begin, _known(last.end, begin))
    waits = [Wait("inputs", begin, ready, (last.node,))] if last is not None else []
    first = _for_tokens(step, ready, step.start)
    until = first[0].since if first else step.start
    waits += [*_before_start(step, steps.values(), ready, until, now, holders, certain), *first]
    waits += _between_attempts(step)
    return [wait for wait in waits if wait.until is None or wait.seconds(now) >= WORTH_TELLING_S]


def _before_start(
    step: StepTimes,
    steps: Iterable[StepTimes],
    ready: float,
    until: float | None,
    now: float,
    holders: Sequence[tuple[str, float, float | None]],
    certain: bool,
) -> list[Wait]:
    """Return what the step waited for between its last input and its first attempt."""
    latest = now if until is None else until
    if latest - ready < WORTH_TELLING_S and until is not None:
        return []
    waits: list[Wait] = []
    held = [(run_id, end) for run_id, start, end in holders if start < latest and (end is None or end > ready)]
    if held:
        ends = [end for _, end in held]
        lasts = until is None and None in ends and step.status is not Status.QUEUED
        free = None if lasts else min(latest, max((end for end in ends if end is not None), default=latest))
        waits.append(Wait("key", ready, free, tuple(dict.fromkeys(run_id for run_id, _ in held)), certain))
        if free is None:
            return waits
        ready = free
    if step.status is Status.REUSED:
        return waits
    if until is None:
        return [*waits, _lasting(step, steps, ready)]
    left = [one for one in _occupants(step, steps) if one.end is not None and ready < one.end <= until]
    freed = max(left, key=lambda one: _known(one.end, ready), default=None)
    return [*waits, Wait("target", ready, until) if freed is None else Wait("room", ready, until, (freed.node,))]


def _lasting(step: StepTimes, steps: Iterable[StepTimes], ready: float) -> Wait:
    """Return what a step waits for that has its inputs and has not begun."""
    if step.short:
        return Wait("tokens", ready, None, (step.short,))
    if step.status is not Status.QUEUED:
        return Wait("key", ready, None, certain=False)
    return Wait("room", ready, None, tuple(one.node for one in _occupants(step, steps) if one.end is None))


def _between_attempts(step: StepTimes) -> list[Wait]:
    waits: list[Wait] = []
    for (_, end), (start, _) in itertools.pairwise(step.attempts):
        for_tokens = _for_tokens(step, end, start)
        waits += [Wait("retry", end, for_tokens[0].since if for_tokens else start), *for_tokens]
    if step.attempts and step.status is Status.QUEUED:
        since = step.attempts[-1][1]
        waits.append(Wait("tokens", since, None, (step.short,)) if step.short else Wait("retry", since, None))
    return waits


def _for_tokens(step: StepTimes, since: float, start: float | None) -> list[Wait]:
    """Return the waits for tokens, after *since*, that ended when an attempt began at *start*."""
    if start is None:
        return []
    found = [one for one in step.token_waits if one[1] > since and one[0] <= start and one[1] <= start + _AT_ONCE_S]
    return [Wait("tokens", max(since, began), min(until, start), (tokens,)) for began, until, tokens in found]


def _occupants(step: StepTimes, steps: Iterable[StepTimes]) -> list[StepTimes]:
    """Return the steps that took room on the step's target at any time."""
    return [
        one
        for one in steps
        if one.node != step.node and one.target == step.target and one.start is not None and one.status != Status.REUSED
    ]


def _known(moment: float | None, otherwise: float) -> float:
    return otherwise if moment is None else moment
