"""Which of the steps that wait for tokens, in all runs of a workspace, gets them: decided purely.

Order, most urgent first: the run of larger priority; the run that holds the smaller share of what is asked for; the
one that has waited longer. Within a run: the step of larger priority, then the one that has waited longer. Nobody is
given what somebody before asks for, also when that one must go on waiting: so a step that asks for many gets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from mlflow_pipes.model.tokens import Amounts, TokenAnswer, TokensGranted, TokensShort, Units
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.resources import TOLERANCE


@dataclass(frozen=True, slots=True)
class Standing:
    """A step that holds tokens, or waits for them.

    Attributes:
        since: from when on its run has waited, in seconds of any clock that all share.
        held: whether it holds them.
        units: which of the *numbered* tokens it holds.
    """

    run_id: str
    node: str
    amounts: Amounts
    limits: Amounts
    numbered: tuple[str, ...] = ()
    priority: int = 0
    step_priority: int = 0
    since: float = 0.0
    held: bool = False
    units: Units = field(default_factory=dict)

    @property
    def owner(self) -> tuple[str, str]:
        """Run and step."""
        return self.run_id, self.node


class Shares:
    """Who holds how many of each token."""

    def __init__(self, held: Iterable[Standing]) -> None:
        self._by_run: dict[str, dict[str, float]] = {}
        self._units: dict[str, set[int]] = {}
        for one in held:
            self.add(one)

    def add(self, one: Standing) -> None:
        """Count what *one* holds."""
        for token, amount in one.amounts.items():
            runs = self._by_run.setdefault(token, {})
            runs[one.run_id] = runs.get(one.run_id, 0.0) + amount
        for token, units in one.units.items():
            self._units.setdefault(token, set()).update(units)

    def of(self, token: str) -> Mapping[str, float]:
        """Return how many of a token each run holds."""
        return self._by_run.get(token, {})

    def share(self, one: Standing) -> float:
        """Return the largest part that the run of *one* holds of any token that it asks for."""
        return max(self.of(token).get(one.run_id, 0.0) / one.limits[token] for token in one.amounts)

    def units_for(self, one: Standing) -> Units:
        """Return which of the numbered tokens *one* would get: the lowest numbers that are free."""
        found = {}
        for token in one.numbered:
            taken = self._units.get(token, set())
            free = (unit for unit in range(round(one.limits[token])) if unit not in taken)
            found[token] = tuple(unit for unit, _ in zip(free, range(round(one.amounts[token])), strict=False))
        return found


def in_order(waiting: Iterable[Standing], shares: Shares) -> list[Standing]:
    """Return those that wait, the most urgent first: a total order. Cost: O(n log n)."""
    ranked = [((-one.priority, shares.share(one), one.run_id), one) for one in waiting]
    earliest: dict[tuple[int, float, str], float] = {}
    for rank, one in ranked:
        earliest[rank] = min(one.since, earliest.get(rank, one.since))

    def key(pair: tuple[tuple[int, float, str], Standing]) -> tuple[int, float, float, str, int, float, str]:
        (priority, share, run_id), one = pair
        return (priority, share, earliest[pair[0]], run_id, -one.step_priority, one.since, one.node)

    return [one for _, one in sorted(ranked, key=key)]


def decide(
    standings: Sequence[Standing], asking: Iterable[tuple[str, str]]
) -> tuple[dict[tuple[str, str], TokenAnswer], list[Standing]]:
    """Answer those who ask, and return what they hold from then on.

    Args:
        standings: all that hold tokens or wait for some, also those who ask; no two of one owner.
        asking: owners who ask now. Who holds what it asks for already is given the same.

    Returns:
        Each one's answer, and the standings of those that hold tokens by it. Cost: O(asking · n log n).
    """
    owners = set(asking)
    shares = Shares(one for one in standings if one.held)
    answers: dict[tuple[str, str], TokenAnswer] = {}
    granted = [one for one in standings if one.held and one.owner in owners]
    answers |= {one.owner: TokensGranted(one.node, one.units) for one in granted}
    waiting = {one.owner: one for one in standings if not one.held}
    undecided = owners - answers.keys()
    while undecided:
        ahead: dict[str, dict[str, float]] = {}
        for one in in_order(waiting.values(), shares):
            if one.owner in undecided:
                undecided.discard(one.owner)
                short = _short(one, shares, ahead)
                if short is None:
                    given = replace(one, held=True, units=shares.units_for(one))
                    answers[one.owner] = TokensGranted(one.node, given.units)
                    granted.append(given)
                    shares.add(given)
                    del waiting[one.owner]
                    break  # its run holds more now: the order may be another
                answers[one.owner] = short
            for token, amount in one.amounts.items():
                runs = ahead.setdefault(token, {})
                runs[one.run_id] = runs.get(one.run_id, 0.0) + amount
    return answers, granted


def _short(one: Standing, shares: Shares, ahead: Mapping[str, Mapping[str, float]]) -> TokensShort | None:
    """Return what *one* lacks; None when all is free that it asks for."""
    for token, amount in sorted(one.amounts.items()):
        held, before = shares.of(token), ahead.get(token, {})
        if sum(held.values()) + sum(before.values()) + amount > one.limits[token] + TOLERANCE:
            return TokensShort(one.node, token, amount, one.limits[token], _most_first(held), _most_first(before))
    return None


def _most_first(amounts: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    held = [(run_id, amount) for run_id, amount in amounts.items() if amount > TOLERANCE]
    return tuple(sorted(held, key=lambda pair: (-pair[1], pair[0])))
