"""What a ledger promises about keys, without a database: entries, claims, leases; and how often each was computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from mlflow_pipes.quick_dataclasses import dataclass

LEASE_S = 2.0
"""How long an orchestrator may give no sign of life before others take its keys over; in virtual seconds."""


@dataclass(frozen=True, slots=True)
class Made:
    """A run has computed a key, in an attempt that no other record speaks of."""

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A run will not compute a key."""

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The output of a key is gone."""

    key: str


@dataclass(frozen=True, slots=True)
class Hit:
    """The key is known."""


@dataclass(frozen=True, slots=True)
class Held:
    """Another run computes the key."""

    run: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """The run that asks is to compute the key."""

    token: int


Written: TypeAlias = Made | GivenBack | Forgotten
Answer: TypeAlias = Hit | Held | Claimed


@dataclass(slots=True)
class _Claim:
    run: str
    token: int


class SimulatedLedger:
    """Entries and claims, as ``workspace/ledger/flights.py`` has them.

    Args:
        silent: whether a run has given no sign of life for a lease, or is known to be gone.
        dead: whether a run's orchestrator is gone; nothing will come of it any more.

    Attributes:
        gone: keys whose stored output was lost.
        fenced: tokens of claims that were taken over.
        broken: laws that did not hold.
    """

    def __init__(self, silent: Callable[[str], bool], dead: Callable[[str], bool]) -> None:
        self.gone: set[str] = set()
        self.fenced: set[int] = set()
        self.broken: list[str] = []
        self._silent = silent
        self._dead = dead
        self._entries: set[str] = set()
        self._claims: dict[str, _Claim] = {}
        self._next_token = 1
        self._made: Counter[str] = Counter()
        self._excused: Counter[str] = Counter()

    def know(self, key: str) -> None:
        """Have an entry of earlier runs, once."""
        if not self._made[key]:
            self._made[key] = 1
            self._entries.add(key)

    def exchange(self, run: str, written: Iterable[Written], asked: Iterable[str]) -> list[Answer]:
        """Take records and answer look-ups, at once or not at all."""
        for record in written:
            match record:
                case Made(key, token):
                    self._take(key, token)
                case GivenBack(key, token):
                    self._end_claim(key, token)
                case Forgotten(key):
                    if key in self._entries:
                        self._entries.discard(key)
                        self._excused[key] += 1
        return [self._answer(run, key) for key in asked]

    def claims_of(self, run: str) -> list[str]:
        """Return the keys that a run holds."""
        return [key for key, claim in self._claims.items() if claim.run == run]

    def end_run(self, run: str) -> None:
        """Give back what a run still holds when it is over."""
        for key in self.claims_of(run):
            del self._claims[key]

    def _take(self, key: str, token: int) -> None:
        self._made[key] += 1
        if self._made[key] > 1 + self._excused[key]:
            self.broken.append(f"computed once: key {key} was computed {self._made[key]} times, though never lost")
        if self._end_claim(key, token) or key not in self._entries:
            self._entries.add(key)

    def _end_claim(self, key: str, token: int) -> bool:
        claim = self._claims.get(key)
        if claim is None or claim.token != token:
            return False
        del self._claims[key]
        return True

    def _answer(self, run: str, key: str) -> Answer:
        if key in self._entries:
            return Hit()
        claim = self._claims.get(key)
        if claim is not None and claim.run == run:
            return Claimed(claim.token)
        if claim is not None:
            if not self._silent(claim.run):
                return Held(claim.run)
            self.fenced.add(claim.token)
            if not self._dead(claim.run):
                self._excused[key] += 1  # both may compute it, and no law can forbid that
        claim = self._claims[key] = _Claim(run, self._next_token)
        self._next_token += 1
        return Claimed(claim.token)
