"""The steps of one run that need tokens: of those that ask for the same on the same target, one waits for all.

So a thousand steps that wait for one connection to a database ask the ledger as often as one of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import field

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.model.tokens import Amounts
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.messages import AskTokens
from mlflow_pipes.scheduling.placement import Rank
from mlflow_pipes.scheduling.resources import RESOURCES, asked, owned
from mlflow_pipes.scheduling.shortage import shared_token
from mlflow_pipes.scheduling.timers import Polls


@dataclass(frozen=True, slots=True)
class Supply:
    """What all runs of a workspace share.

    Attributes:
        tokens: how many there are of each token that steps can name.
        shared: names that stand for the resources of targets which runs share, by the target's name.
    """

    tokens: Amounts = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)


NOTHING_SHARED = Supply()


class _Kind:
    """Steps that ask for the same on the same target.

    Attributes:
        short: one of them was refused and none was given any since.
        asker: the one that asks for all of them while they are short, or is about to.
        refused: the one that the ledger has noted as waiting.
        parked: those that wait for it; the heap may hold some that wait no more.
        reason: why they are short, in words.
    """

    __slots__ = ("amounts", "asker", "name", "parked", "reason", "refused", "short", "waiting")

    def __init__(self, name: str, amounts: Amounts) -> None:
        self.name = name
        self.amounts = amounts
        self.short = False
        self.asker: str | None = None
        self.refused: str | None = None
        self.parked: list[tuple[Rank, str]] = []
        self.waiting: set[str] = set()
        self.reason = ""

    def park(self, node: str, rank: Rank) -> None:
        if node not in self.waiting:
            self.waiting.add(node)
            heapq.heappush(self.parked, (rank, node))

    def first(self) -> tuple[Rank, str] | None:
        while self.parked and self.parked[0][1] not in self.waiting:
            heapq.heappop(self.parked)
        return self.parked[0] if self.parked else None


def check_tokens(node: str, options: StepOptions, named: Amounts) -> None:
    """Raise ``ConfigurationError`` when a step asks for tokens that there never are; *named* are those there are."""
    for token, amount in options.tokens.items():
        if token not in named:
            known = f"there are: {', '.join(sorted(named))}" if named else "there are none"
            raise ConfigurationError(
                f"step {node!r} asks for the token {token!r}, which is not configured"
                f"{suggest(token, named)} ({known}); add {token} = {amount:g} under [tokens] in pipes.toml"
            )
        if amount > named[token]:
            raise ConfigurationError(
                f"step {node!r} asks for {amount:g} of token {token!r}, but in all there are {named[token]:g}"
                f": ask for fewer, or raise {token} under [tokens] in pipes.toml"
            )


class TokenLine:
    """Who of a run's steps may ask for tokens, who holds some, and who waits.

    Each method costs O(log n), besides that what gives tokens back looks at every kind of request that is short.

    Args:
        supply: what there is.
        polls: says when to ask again; keyed by kinds of requests.

    Attributes:
        standing: steps that the ledger knows: they hold tokens, or were refused.
    """

    def __init__(self, supply: Supply, polls: Polls) -> None:
        self.standing: set[str] = set()
        self._named = supply.tokens
        self._shared = supply.shared
        self._limits = dict(supply.tokens)
        self._numbered: set[str] = set()
        self._polls = polls
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._kind_of: dict[str, _Kind] = {}
        self._asking: set[str] = set()
        self._since: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._withdrawn: list[str] = []
        self._last_given: dict[str, float] = {}

    def add_target(self, name: str, capacity: Capacity) -> None:
        """Learn what a target has, which other runs may use as well."""
        if name not in self._shared:
            return
        for resource, amount in zip(RESOURCES, owned(capacity), strict=True):
            if 0 < amount < math.inf:
                self._limits[shared_token(self._shared[name], resource)] = amount
        self._numbered.add(shared_token(self._shared[name], "gpus"))

    def check(self, node: str, options: StepOptions) -> None:
        """Raise ``ConfigurationError`` when a step asks for tokens that there never are."""
        check_tokens(node, options, self._named)

    def add(self, node: str, options: StepOptions, target: str) -> None:
        """Take in a step; nothing is kept of one that needs no tokens."""
        if not options.tokens and target not in self._shared:
            return
        amounts = dict(options.tokens)
        if target in self._shared:
            for resource, amount in zip(RESOURCES, asked(options), strict=True):
                token = shared_token(self._shared[target], resource)
                if amount and token in self._limits:
                    amounts[token] = amount
        if amounts:
            key = (target, asked(options), tuple(sorted(amounts.items())))
            if key not in self._kinds:
                self._kinds[key] = _Kind(str(len(self._kinds)), amounts)
            self._kind_of[node] = self._kinds[key]

    def needs(self, node: str) -> bool:
        """Tell whether a step can begin only with tokens."""
        return node in self._kind_of

    def ask(self, node: str, rank: Rank, now: float) -> AskTokens | None:
        """Return the request of a step that has room; None when another one asks for it, and it must wait."""
        kind = self._kind_of[node]
        if kind.short and kind.asker != node:
            kind.park(node, rank)
            self._since.setdefault(node, now)
            self._told[node] = kind.reason
            return None
        self._asking.add(node)
        self._notes_no_more(kind, node)
        since = max(self._since.get(node, now), *(self._last_given.get(token, -math.inf) for token in kind.amounts))
        numbered = tuple(token for token in kind.amounts if token in self._numbered)
        limits = {token: self._limits[token] for token in kind.amounts}
        return AskTokens(node, kind.amounts, limits, numbered, max(0.0, now - since))

    def answered(self, node: str) -> bool:
        """Take that a request was answered; False when there was none."""
        asked_for = node in self._asking
        self._asking.discard(node)
        if asked_for:
            self.standing.add(node)
        return asked_for

    def given(self, node: str, now: float) -> float:
        """Take that a step was given tokens; return for how long it has waited for them, 0 when it has not."""
        kind = self._kind_of[node]
        kind.refused = None if kind.refused == node else kind.refused
        self._last_given.update(dict.fromkeys(kind.amounts, now))
        self._polls.let_go(kind.name)
        self._told.pop(node, None)
        return now - self._since.pop(node, now)

    def refused(self, node: str, rank: Rank, reason: str, now: float) -> bool:
        """Have a refused step wait, and all that ask for the same; return whether the reason is news for it."""
        kind = self._kind_of[node]
        self._since.setdefault(node, now)
        kind.park(node, rank)
        self._notes_no_more(kind, node)
        kind.refused = node
        kind.reason = reason
        kind.short = True
        if kind.asker == node or (kind.asker is None and len(kind.waiting) == 1):  # else others were refused before
            kind.asker = None
            self._polls.hold(kind.name, now)
        news = reason != self._told.get(node, "")
        self._told[node] = reason
        return news

    def take_withdrawn(self) -> list[str]:
        """Return, once, the steps whose requests are to be withdrawn: another one asks in their place."""
        withdrawn, self._withdrawn = self._withdrawn, []
        return withdrawn

    def _notes_no_more(self, kind: _Kind, asker: str) -> None:
        """Have at most one request of a kind noted as waiting: others would go before it for nothing."""
        if kind.refused not in {None, asker} and kind.refused in self.standing:
            self.standing.discard(kind.refused)
            self._withdrawn.append(kind.refused)
        kind.refused = None

    def reason(self, node: str) -> str:
        """Return why a step waits."""
        return self._kind_of[node].reason

    def amounts(self, node: str) -> Amounts:
        """Return what a step asks for."""
        return self._kind_of[node].amounts

    def next_after(self, node: str) -> str | None:
        """Return who asks now that a step has been given tokens, or does not want them any more."""
        kind = self._kind_of[node]
        if kind.asker not in {None, node}:
            return None
        return self._next(kind)

    def freed_by(self, node: str) -> list[str]:
        """Take that a step gave its tokens back; return who asks for them now, the most urgent first."""
        self.standing.discard(node)
        freed = self._kind_of[node].amounts.keys()
        short = [kind for kind in self._kinds.values() if kind.short and kind.asker is None]
        waiting = [(kind.first(), kind) for kind in short if not freed.isdisjoint(kind.amounts)]
        ordered = sorted([(first, kind) for first, kind in waiting if first is not None], key=lambda one: one[0])
        return [asker for _, kind in ordered if (asker := self._next(kind)) is not None]

    def due(self, now: float) -> list[str]:
        """Return the steps that ask again now."""
        kinds = {kind.name: kind for kind in self._kinds.values()}
        return [asker for name in self._polls.due(now) if (asker := self._next(kinds[name])) is not None]

    def forget(self, node: str) -> str | None:
        """Take that a step wants no tokens any more; return who asks in its place."""
        kind = self._kind_of[node]
        self._since.pop(node, None)
        self._told.pop(node, None)
        kind.waiting.discard(node)
        if kind.asker != node or node in self._asking:
            return None
        return self._next(kind)

    def clear(self) -> None:
        """Forget all that wait, as nothing more is begun."""
        self._polls.clear()
        self._since.clear()
        self._told.clear()
        for kind in self._kinds.values():
            kind.short, kind.asker = False, None
            kind.parked.clear()
            kind.waiting.clear()

    def _next(self, kind: _Kind) -> str | None:
        """Have the most urgent of those that wait ask; none is left waiting when there is none."""
        first = kind.first()
        if first is None:
            kind.short, kind.asker = False, None
            self._polls.let_go(kind.name)
            return None
        kind.asker = first[1]
        kind.waiting.discard(first[1])
        heapq.heappop(kind.parked)
        self._polls.looking(kind.name)
        return kind.asker
