"""What the database has of keys, as single flight sees it: entries of the step cache, and claims."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mlflow_pipes.model.run import CacheAnswer, LookUp
from mlflow_pipes.workspace.ledger import rows
from mlflow_pipes.workspace.ledger.backends import Cursor
from mlflow_pipes.workspace.ledger.connection import Database, Prepared
from mlflow_pipes.workspace.ledger.flights import Claim, Entry, Flights, Orchestrator
from mlflow_pipes.workspace.ledger.statements import Statements
from mlflow_pipes.workspace.ledger.writing import write_many

# Shorter steps are not worth a row: every step of unknown duration is taken to be quick.
_WORTH_ESTIMATING_S = 0.010


class KeyRows:
    """Loads what is stored of keys, and writes what became of them.

    Args:
        statements: for the database.
        database: that the cursors are of.
        orchestrator: where a run's engine is, by run id.
        is_over: whether a run, the process of which on that host is given, is known to be dead.
    """

    def __init__(
        self,
        statements: Statements,
        database: Database,
        orchestrator: Callable[[str], Orchestrator],
        is_over: Callable[[str, str, str], bool],
    ) -> None:
        self._statements = statements
        self._database = database
        self._orchestrator = orchestrator
        self._is_over = is_over

    def look(self, cursor: Cursor, lookups: Sequence[LookUp], now: float) -> Flights:
        """Return what answers these look-ups; where the entry does, nothing is asked of claims."""
        flights = self._flights(cursor, self._entries(cursor, {question.key for question in lookups}), {}, now, 0)
        open_ = {question.key for question in lookups if not flights.hits(question)}
        flights.claims.update(self._claims(cursor, open_))
        return flights

    def answers_of(self, entries: dict[str, Entry], lookups: Sequence[LookUp], now: float) -> list[CacheAnswer]:
        """Return the hits among *entries* for all of these look-ups; nothing unless each is one."""
        flights = self._flights(None, entries, {}, now, 0)
        return flights.answers(lookups) if all(map(flights.hits, lookups)) else []

    def behind(self, cursor: Cursor, step_run_id: str) -> dict[str, Entry]:
        """Return the entries of what was declared behind a step, in the same run."""
        cursor.execute(self._statements.entries_behind.sql, (step_run_id,))
        return {row[0]: Entry(*row) for row in cursor.fetchall()}

    def load(self, cursor: Cursor, keys: Iterable[str], now: float, next_token: int) -> Flights:
        """Return all that is stored of *keys*."""
        distinct = set(keys)
        return self._flights(cursor, self._entries(cursor, distinct), self._claims(cursor, distinct), now, next_token)

    def write(self, cursor: Cursor, flights: Flights, token: int) -> None:
        """Write what became of keys; *token* is the last fencing token that was given before."""
        do = self._statements
        write_many(cursor, do.drop_entry, [(key,) for key in flights.dropped_entries])
        written = flights.written_entries
        if written:
            write_many(
                cursor,
                do.put_entry,
                [rows.entry_row(record, flights.entries[key].output) for key, record in written.items()],
            )
            slow = [record for record in written.values() if record.duration_s >= _WORTH_ESTIMATING_S]
            write_many(cursor, do.put_duration, [(one.pipeline, one.node, one.duration_s, one.made_at) for one in slow])
        write_many(cursor, do.drop_claim, [(key,) for key in flights.dropped_claims])
        write_many(cursor, do.put_claim, [rows.claim_row(claim) for claim in flights.written_claims.values()])
        if flights.next_token != token + 1:
            cursor.execute(do.give_tokens.sql, (flights.next_token - 1,))

    def _flights(
        self, cursor: Cursor | None, entries: dict[str, Entry], claims: dict[str, Claim], now: float, next_token: int
    ) -> Flights:
        last_sign = functools.cache(functools.partial(self._last_sign, cursor))
        up_since = self._database.up_since
        return Flights(entries, claims, now, next_token, self._orchestrator, self._gone, last_sign, up_since)

    def _last_sign(self, cursor: Cursor | None, run_id: str) -> float:
        assert cursor is not None, "there are claims"
        cursor.execute(self._statements.last_sign.sql, (run_id,))
        found = cursor.fetchone()
        return found[0] if found else 0.0

    def _gone(self, claim: Claim) -> bool:
        return self._is_over(claim.run_id, claim.host, claim.process)

    def _entries(self, cursor: Cursor, keys: set[str]) -> dict[str, Entry]:
        return {row[0]: Entry(*row) for row in self._of_keys(cursor, self._statements.entries, keys)}

    def _claims(self, cursor: Cursor, keys: set[str]) -> dict[str, Claim]:
        return {row[0]: Claim(*row) for row in self._of_keys(cursor, self._statements.claims, keys)}

    def _of_keys(self, cursor: Cursor, question: Callable[[int], Prepared], keys: set[str]) -> Iterator[Any]:
        for sql, parameters in self._statements.of_keys(question, list(keys)):
            cursor.execute(sql, parameters)
            yield from cursor.fetchall()
