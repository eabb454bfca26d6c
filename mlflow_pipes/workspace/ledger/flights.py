"""Single flight: who may compute a key, as pure decisions over the entries and claims that a transaction has read.

Laws (a stateful test holds them): a key has at most one claim; tokens grow; the result of an owner that was fenced
out never replaces an entry that others may already use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from typing import NamedTuple

from mlflow_pipes.model.artifact import from_json, to_json
from mlflow_pipes.model.run import (
    CacheAnswer,
    Claimed,
    EntryForgotten,
    Held,
    Hit,
    KeyReleased,
    LookUp,
    Miss,
    OutputCached,
)
from mlflow_pipes.quick_dataclasses import dataclass

# A claim is dead when it is so old, and its run gave no sign of life for so long. Heartbeats come every second, while
# a step keeps the loop busy every ten.
LEASE_S = 30.0


class Claim(NamedTuple):
    """Run *run_id* computes *key*: until *expires_at* whatever is heard of it, then while it gives signs of life."""

    key: str
    run_id: str
    token: int
    host: str
    process: str
    expires_at: float


class Entry(NamedTuple):
    """What the step cache knows of a key; *output* is JSON text, parsed only for a hit."""

    key: str
    output: str
    step_run_id: str
    made_at: float
    duration_s: float
    reuse: bool


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """Where a run's engine is."""

    host: str
    process: str


@dataclass(slots=True)
class Flights:
    """Entries and claims of the keys of one exchange, and what became of them.

    Attributes:
        entries, claims: as stored, by key; changed in place by the methods.
        next_token: the next fencing token to give.
        orchestrator: where a run's engine is, by run id.
        gone: whether the process that holds a claim is known to be dead.
        last_sign: when a run gave its last sign of life, by run id; asked only when that matters.
        up_since: when the ledger came up: before that nobody could give a sign of life.
    """

    entries: dict[str, Entry]
    claims: dict[str, Claim]
    now: float
    next_token: int
    orchestrator: Callable[[str], Orchestrator]
    gone: Callable[[Claim], bool]
    last_sign: Callable[[str], float]
    up_since: float = 0.0
    written_entries: dict[str, OutputCached] = field(default_factory=dict)
    dropped_entries: set[str] = field(default_factory=set)
    written_claims: dict[str, Claim] = field(default_factory=dict)
    dropped_claims: set[str] = field(default_factory=set)

    def apply(self, record: OutputCached | KeyReleased | EntryForgotten) -> None:
        """Take in what the engine did with a key."""
        match record:
            case OutputCached():
                self._cached(record)
            case KeyReleased(key, token):
                self._end_claim(key, token)
            case EntryForgotten(key):
                if self.entries.pop(key, None) is not None:
                    self.written_entries.pop(key, None)
                    self.dropped_entries.add(key)

    def _cached(self, record: OutputCached) -> None:
        key = record.key
        entry = self.entries.get(key)
        owner = self._end_claim(key, record.token)
        # A late result must not replace what others already use; where nobody has one it is as good as any.
        if owner or entry is None or not entry.reuse:
            output = to_json(record.output)
            self.entries[key] = Entry(
                key, output, record.step_run_id, record.made_at, record.duration_s, reuse=record.reuse
            )
            self.written_entries[key] = record
            self.dropped_entries.discard(key)

    def _end_claim(self, key: str, token: int) -> bool:
        claim = self.claims.get(key)
        if claim is None or claim.token != token:
            return False
        del self.claims[key]
        self.written_claims.pop(key, None)
        self.dropped_claims.add(key)
        return True

    def answer(self, question: LookUp) -> CacheAnswer:
        """Answer one look-up, claiming its key where it asks to."""
        key = question.key
        if self.hits(question):
            entry = self.entries[key]
            return Hit(key, from_json(entry.output), entry.step_run_id, entry.made_at, entry.duration_s)
        if not question.claim:
            return Miss(key)
        claim = self.claims.get(key)
        if claim is not None and claim.run_id != question.run_id and not self.dead(claim):
            return Held(key, claim.run_id, claim.host, claim.process)
        if claim is None or claim.run_id != question.run_id:
            claim = self._claim(key, question.run_id)
        return Claimed(key, claim.token)

    def hits(self, question: LookUp) -> bool:
        """Tell whether the output is known."""
        entry = self.entries.get(question.key)
        if entry is None or not entry.reuse:
            return False
        return question.max_age_s is None or self.now - entry.made_at <= question.max_age_s

    def dead(self, claim: Claim) -> bool:
        """Whether a claim's owner has given no sign of life for a lease, or is known to be gone."""
        return self._is_silent(claim) or self.gone(claim)

    def _is_silent(self, claim: Claim) -> bool:
        now, up_since = self.now, self.up_since
        return is_silent(claim.expires_at, now, up_since) and is_silent(
            self.last_sign(claim.run_id) + LEASE_S, now, up_since
        )

    def _claim(self, key: str, run_id: str) -> Claim:
        owner = self.orchestrator(run_id)
        claim = Claim(key, run_id, self.next_token, owner.host, owner.process, self.now + LEASE_S)
        self.next_token += 1
        self.claims[key] = self.written_claims[key] = claim
        self.dropped_claims.discard(key)
        return claim

    def answers(self, questions: Iterable[LookUp]) -> list[CacheAnswer]:
        """Answer look-ups in order."""
        return [self.answer(question) for question in questions]


def is_silent(expires_at: float, now: float, up_since: float) -> bool:
    """Tell whether what was to be heard by then was not, though the ledger has been up for long enough."""
    just_up = up_since <= now < up_since + LEASE_S
    return expires_at <= now and not just_up
