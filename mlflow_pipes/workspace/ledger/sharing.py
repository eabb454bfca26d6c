"""Tokens in the ledger: who holds some and who waits, a row each. Who gets them decides ``scheduling.sharing``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from mlflow_pipes.model.tokens import TokenAnswer, TokenRequest, TokensReturned
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.sharing import Standing, decide
from mlflow_pipes.workspace.ledger.backends import Cursor
from mlflow_pipes.workspace.ledger.flights import LEASE_S, Orchestrator, is_silent
from mlflow_pipes.workspace.ledger.rows import SqlRow, json_text
from mlflow_pipes.workspace.ledger.statements import Statements

# Who waits asks every quarter of a second. Who has not for so long is not there to take what becomes free.
WAITING_COUNTS_S = 2.0
# What the databases hold; nobody needs more urgent runs.
_MOST_URGENT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Row:
    standing: Standing
    host: str
    process: str
    expires_at: float


class Sharing:
    """The rows of ``token_requests``, inside the ledger's transactions.

    Args:
        statements: of the ledger's dialect.
        orchestrator: where a run's engine is, by run id.
        gone: whether a process, named by host and process, or a run is known to be over.
    """

    def __init__(
        self,
        statements: Statements,
        orchestrator: Callable[[str], Orchestrator],
        gone: Callable[[str, str, str], bool],
    ) -> None:
        self._do = statements
        self._orchestrator = orchestrator
        self._gone = gone

    def settle(
        self,
        cursor: Cursor,
        returned: Sequence[TokensReturned],
        requests: Sequence[TokenRequest],
        now: float,
        up_since: float,
    ) -> list[TokenAnswer]:
        """Take back what was returned, then answer requests at their places; forget who is dead, or waits no more.

        Times are the ledger's; *up_since* is when it came up: before that nobody could give a sign of life.
        """
        for one in returned:
            cursor.execute(self._do.drop_token_request.sql, (one.run_id, one.node))
        if not requests:
            return []
        cursor.execute(self._do.token_requests.sql)
        standings = {}
        for row in [_read(row) for row in cursor.fetchall()]:
            if self._is_dead(row, now, up_since):
                cursor.execute(self._do.drop_token_request.sql, row.standing.owner)
            else:
                standings[row.standing.owner] = row.standing
        asking = {}
        for request in requests:
            asked = asking[request.run_id, request.node] = _standing(request, now)
            known = standings.get(asked.owner)
            if known is None or not known.held or known.amounts != asked.amounts:
                standings[asked.owner] = asked
        answers, granted = decide(list(standings.values()), asking)
        held = {one.owner: one for one in granted}
        for owner, asked in asking.items():
            cursor.execute(self._do.put_token_request.sql, self._row(held.get(owner, asked), now))
        return [answers[request.run_id, request.node] for request in requests]

    def renew(self, cursor: Cursor, run_id: str, now: float) -> None:
        """Renew what a run holds."""
        cursor.execute(self._do.renew_tokens.sql, (now + LEASE_S, run_id))

    def end_run(self, cursor: Cursor, run_id: str) -> None:
        """Free what a run holds."""
        cursor.execute(self._do.drop_token_requests_of_run.sql, (run_id,))

    def _is_dead(self, row: _Row, now: float, up_since: float) -> bool:
        one = row.standing
        silent = is_silent(row.expires_at, now, up_since) if one.held else row.expires_at <= now
        return silent or self._gone(one.run_id, row.host, row.process)

    def _row(self, one: Standing, now: float) -> SqlRow:
        owner = self._orchestrator(one.run_id)
        return (
            one.run_id, one.node, json_text(dict(one.amounts)), json_text(dict(one.limits)),
            json_text(list(one.numbered)), json_text(dict(one.units)), one.priority, one.step_priority, one.since,
            one.held, owner.host, owner.process, now + (LEASE_S if one.held else WAITING_COUNTS_S),
        )  # fmt: skip


def _standing(request: TokenRequest, now: float) -> Standing:
    return Standing(
        run_id=request.run_id,
        node=request.node,
        amounts=request.amounts,
        limits=request.limits,
        numbered=request.numbered,
        priority=_storable(request.priority),
        step_priority=_storable(request.step_priority),
        since=now - request.waited_s,
    )


def _storable(priority: int) -> int:
    return max(-_MOST_URGENT, min(priority, _MOST_URGENT))


def _read(row: SqlRow) -> _Row:
    run_id, node, amounts, limits, numbered, units, priority, step_priority, since, held, host, process, expires = row
    standing = Standing(
        run_id,
        node,
        json.loads(amounts),
        json.loads(limits),
        tuple(json.loads(numbered)),
        priority,
        step_priority,
        since,
        bool(held),
        {token: tuple(given) for token, given in json.loads(units).items()},
    )
    return _Row(standing, host, process, expires)
