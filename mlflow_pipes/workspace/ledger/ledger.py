"""The ledger on a SQL database: the engine's exchange, heartbeats, claims."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

from mlflow_pipes.errors import LedgerError
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.model.resumption import UNKNOWN_EFFECT
from mlflow_pipes.model.run import (
    Answer,
    CacheAnswer,
    CancelStep,
    Claimed,
    EntryForgotten,
    Heartbeat,
    Hit,
    KeyReleased,
    LookUp,
    OutputCached,
    Question,
    Record,
    RunEnded,
    RunStarted,
    Status,
)
from mlflow_pipes.model.tokens import TokenAnswer, TokenRequest, TokensReturned
from mlflow_pipes.workspace.ledger import rows, tables
from mlflow_pipes.workspace.ledger.backends import Cursor, PostgresqlBackend, SqliteBackend
from mlflow_pipes.workspace.ledger.connection import PATIENCE_S, Database, Prepared
from mlflow_pipes.workspace.ledger.flights import Orchestrator
from mlflow_pipes.workspace.ledger.keys import KeyRows
from mlflow_pipes.workspace.ledger.lives import Lives
from mlflow_pipes.workspace.ledger.outbox import SqlOutbox
from mlflow_pipes.workspace.ledger.place import PostgresqlPlace
from mlflow_pipes.workspace.ledger.read_ahead import ReadAhead
from mlflow_pipes.workspace.ledger.schema import make_ready
from mlflow_pipes.workspace.ledger.sharing import Sharing
from mlflow_pipes.workspace.ledger.statements import statements_for
from mlflow_pipes.workspace.ledger.writing import write_history

# Runs of this process that are over, but of whose end the ledger could not be told (a full disk), with the reason.
_broken_off: dict[str, str] = {}
# What is answered so much later than it was asked is answered as of then, in seconds.
_LATE_S = 1.0


class SqlLedger:
    """The truth about runs, and the step cache: implements ``ports.Ledger`` and ``ports.Outbox``.

    Safe for several processes (writers take turns) and several threads (one at a time). Every *now* is this process's
    time; on a database that machines share, claims and signs of life are dated by that database's clock.

    Attributes:
        database: for the queries of ``workspace.runs``, ``workspace.gc`` and ``workspace.explain``.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._statements = statements_for(database.dialect)
        self._outbox = SqlOutbox(database)
        self._orchestrators: dict[str, Orchestrator] = {}
        self._held: defaultdict[str, set[int]] = defaultdict(set)
        self._lives = Lives(shared=database.backend.shared)
        self._keys = KeyRows(self._statements, database, self._orchestrator, self._is_over)
        self._ahead = ReadAhead(lambda id_: database.read(lambda cursor: self._keys.behind(cursor, id_)))
        self._sharing = Sharing(self._statements, self._orchestrator, self._is_over)
        self._holding: set[str] = set()

    @classmethod
    def open(
        cls,
        place: Path | str | PostgresqlPlace,
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.time,
    ) -> SqlLedger:
        """Open the ledger on PostgreSQL or in a SQLite file, made when it is not there.

        Args:
            place: where; ``:memory:`` for a ledger that is gone with the object.
            patience_s: how long a database that is busy or away is waited for, once it is open.
            clock: this process's.

        Raises:
            LedgerError: it cannot be opened or written, or was made by a newer version of this package.
        """
        if isinstance(place, PostgresqlPlace):
            lock_file = None
            database = Database(PostgresqlBackend(place), patience_s=patience_s, clock=clock)
        else:
            lock_file = None if str(place) == ":memory:" else Path(f"{place}.lock")
            database = Database(SqliteBackend(place), patience_s=patience_s, clock=clock)
        try:
            make_ready(database, lock_file)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close the database; idempotent."""
        self.database.close()

    # The engine's side: ports.Ledger

    def exchange(self, records: Sequence[Record], questions: Sequence[Question], now: float) -> list[Answer]:
        """In one transaction write *records* in order, then answer *questions*, each at its place.

        Without records, and when nothing must be claimed or given, the database is only read.
        """
        lookups = [question for question in questions if isinstance(question, LookUp)]
        if len(lookups) == len(questions):
            return [*self._answered(records, lookups, now)]
        requests = [question for question in questions if isinstance(question, TokenRequest)]
        answers, tokens = self._write(records, lookups, now, requests)
        of_key, of_step = iter(answers), iter(tokens)
        return [next(of_key if isinstance(question, LookUp) else of_step) for question in questions]

    def _answered(self, records: Sequence[Record], lookups: Sequence[LookUp], now: float) -> list[CacheAnswer]:
        if records:
            return self._write(records, lookups, now)[0]
        if not lookups:
            return []
        time_of = self._ledger_time(now)
        ahead = self._ahead.entries()
        if ahead and (answers := self._keys.answers_of(ahead, lookups, time_of())):
            self._ahead.served(len(answers))
            return answers

        def look(cursor: Cursor) -> tuple[list[CacheAnswer], bool]:
            flights = self._keys.look(cursor, lookups, time_of())
            return flights.answers(lookups), bool(flights.written_claims)  # answers may ask for signs of life

        answers, claimed = self.database.read(look)
        if not claimed:
            self._ahead.answered(answers)
            return answers
        # A claim made on what was read outside a transaction does not count: ask again, inside. Hits stay true.
        open_ = [number for number, answer in enumerate(answers) if not isinstance(answer, Hit)]
        again, _ = self._write((), [lookups[number] for number in open_], now)
        for number, answer in zip(open_, again, strict=True):
            answers[number] = answer
        return answers

    def _write(
        self, records: Sequence[Record], lookups: Sequence[LookUp], now: float, requests: Sequence[TokenRequest] = ()
    ) -> tuple[list[CacheAnswer], list[TokenAnswer]]:
        by_type: defaultdict[type, list[Any]] = defaultdict(list)
        keyed: list[OutputCached | KeyReleased | EntryForgotten] = []
        for record in records:
            if isinstance(record, (OutputCached, KeyReleased, EntryForgotten)):
                keyed.append(record)
            else:
                by_type[type(record)].append(record)
        self._ahead.forget(item.key for item in keyed)
        time_of = self._ledger_time(now)

        returned: list[TokensReturned] = by_type.pop(TokensReturned, [])

        def work(cursor: Cursor) -> tuple[list[CacheAnswer], list[TokenAnswer]]:
            cursor.execute(self._statements.next_revision.sql)
            revision, token = cursor.fetchone()
            if by_type:
                write_history(cursor, self._statements, by_type, revision, self.database.clock_ahead_s)
            tokens: list[TokenAnswer] = []
            for over in by_type[RunEnded]:
                self._free(cursor, over.run_id)
            if returned or requests:
                tokens = self._sharing.settle(cursor, returned, requests, time_of(), self.database.up_since)
            if not (keyed or lookups):
                return [], tokens
            keys = [item.key for item in chain(keyed, lookups)]
            flights = self._keys.load(cursor, keys, time_of(), token + 1)
            for item in keyed:
                flights.apply(item)
            answers = flights.answers(lookups)
            self._keys.write(cursor, flights, token)
            return answers, tokens

        with _remembering_ends(by_type[RunEnded]):
            answers, tokens = self.database.write(work, by_cursor_alone=True)
        self._holding.update(request.run_id for request in requests)
        self._remember(by_type, keyed, lookups, answers)
        return answers, tokens

    def _free(self, cursor: Cursor, run_id: str) -> None:
        """Free what a run that is over still claims or holds."""
        cursor.execute(self._statements.drop_claims_of_run.sql, (run_id,))
        self._sharing.end_run(cursor, run_id)

    def _ledger_time(self, now: float) -> Callable[[], float]:
        """Return what tells the time by the ledger's clock, *now* being the time by ours when the question was asked.

        Time that went by since counts when it is much: the database may have been away, and a claim must be new when
        it is given.
        """
        asked = time.monotonic()

        def time_of() -> float:
            late_s = time.monotonic() - asked
            return now + self.database.clock_ahead_s + (late_s if late_s > _LATE_S else 0.0)

        return time_of

    def _remember(
        self,
        by_type: Mapping[type, list[Any]],
        keyed: Iterable[OutputCached | KeyReleased | EntryForgotten],
        lookups: Sequence[LookUp],
        answers: Sequence[CacheAnswer],
    ) -> None:
        """After the commit: which tokens this process's runs hold, to tell them when one is lost."""
        for started in by_type[RunStarted]:
            self._orchestrators[started.run_id] = Orchestrator(started.host, started.process)
        if self._held:
            for item in keyed:
                if not isinstance(item, EntryForgotten) and item.token:
                    for tokens in self._held.values():
                        tokens.discard(item.token)
        for question, answer in zip(lookups, answers, strict=True):
            if isinstance(answer, Claimed):
                self._held[question.run_id].add(answer.token)
        for over in by_type[RunEnded]:
            self._held.pop(over.run_id, None)
            self._holding.discard(over.run_id)
            self._orchestrators.pop(over.run_id, None)

    def heartbeat(self, run_id: str, now: float) -> Heartbeat:
        """Tell that the run's orchestrator lives, and with it its claims and tokens; learn what others want of it."""
        time_of = self._ledger_time(now)
        held = self._held[run_id]

        def work(cursor: Cursor) -> tuple[list[Any], set[int], list[Any]]:
            alive_at = time_of()
            cursor.execute(self._statements.alive.sql, (alive_at, run_id))
            found = cursor.fetchall()
            if run_id in self._holding:
                self._sharing.renew(cursor, run_id, alive_at)
            lost: set[int] = set()
            # Counted by the index alone: there may be 100,000. One lost as another was just claimed is seen next time.
            if _all(cursor, self._statements.count_claims, (run_id,))[0][0] != len(held):
                lost = held - {row[0] for row in _all(cursor, self._statements.tokens_of_run, (run_id,))}
            return found, lost, _all(cursor, self._statements.cancel_requests, (run_id,))

        found, lost, requests = self.database.write(work, by_cursor_alone=True)
        self.database.look_at_clock()
        held -= lost
        # A run that is no longer open was declared interrupted by another process: it must not go on.
        cancel = bool(found[0][0]) if found else True
        return Heartbeat(
            cancel_requested=cancel,
            lost_tokens=sorted(lost),
            reason=next((reason for node, reason in requests if not node), ""),
            cancel_steps=[CancelStep(node, reason) for node, reason in requests if node],
        )

    def estimates(self, pipeline: str) -> Mapping[str, float]:
        """Return the last known duration in seconds of the pipeline's nodes, by node id (10 ms and more)."""
        durations = tables.durations.c
        query = select(durations.node, durations.duration_s).where(durations.pipeline == pipeline)
        return dict(self.database.rows(query))

    # Others' side

    def request_cancel(self, run_id: str, now: float, *, node: str = "", reason: str = "") -> bool:
        """Ask the run's orchestrator to cancel it, or that step or sub-pipeline of it, at its next heartbeat.

        Returns False when the run is over.
        """
        open_run = (tables.runs.c.run_id == run_id) & tables.runs.c.ended_at.is_(None)
        request = (run_id, node, rows.plain(reason), now)

        def work(cursor: Cursor) -> bool:
            if node:
                is_open = bool(self.database.rows(select(tables.runs.c.run_id).where(open_run)))
            else:
                is_open = self.database.change(update(tables.runs).where(open_run).values(cancel_requested=True)) == 1
            if is_open:
                cursor.execute(self._statements.put_cancel_request.sql, request)
            return is_open

        return self.database.write(work)

    def interrupt_dead_runs(self, now: float, silent_s: float = 60.0) -> list[str]:
        """Mark runs whose orchestrator died as interrupted, with their unfinished steps; free their claims.

        Dead is one whose process is gone on this host, or that on another host was silent for *silent_s*; and one of
        this process whose end could not be recorded.
        Returns their ids. Costs one indexed query when no run is open.
        """
        runs = tables.runs.c
        query = select(runs.run_id, runs.host, runs.process, runs.heartbeat_at).where(runs.ended_at.is_(None))
        time_of = self._ledger_time(now)
        found = self.database.rows(query)
        now = time_of()
        # While the database was down nobody could give a sign of life.
        up_since = self.database.up_since if self.database.up_since <= now else 0.0
        dead = [
            row.run_id
            for row in found
            if row.run_id in _broken_off
            or self._run_is_dead(row.host, row.process, now - max(row.heartbeat_at, up_since) > silent_s)
        ]
        return [run_id for run_id in dead if self._interrupt(run_id, now)]

    def _run_is_dead(self, host: str, process: str, silent: bool) -> bool:
        return self._lives.gone(host, process) if self._lives.can_see(host, process) else silent

    def _interrupt(self, run_id: str, now: float) -> bool:
        do = self._statements
        why = _broken_off.get(run_id, "its orchestrator process died")
        message = f"{why}; resume it or run it again: what is done is not done again"

        def work(cursor: Cursor) -> bool:
            cursor.execute(do.next_revision.sql)
            revision, _ = cursor.fetchone()
            open_run = (tables.runs.c.run_id == run_id) & tables.runs.c.ended_at.is_(None)
            last_sign = select(tables.runs.c.heartbeat_at).where(tables.runs.c.run_id == run_id)
            ended_at = min(now, float(self.database.rows(last_sign)[0][0]))
            marked = self.database.change(
                update(tables.runs)
                .where(open_run)
                .values(status=Status.INTERRUPTED.value, ended_at=ended_at, message=message, revision=revision)
            )
            if marked:
                steps = tables.step_runs.c
                unfinished = [status.value for status in Status if not status.ended]
                self.database.change(
                    update(tables.step_runs).where(steps.run_id == run_id, _unheard()).values(reason=UNKNOWN_EFFECT)
                )
                self.database.change(
                    update(tables.step_runs)
                    .where(steps.run_id == run_id, steps.status.in_(unfinished))
                    .values(status=Status.INTERRUPTED.value, ended_at=ended_at, revision=revision)
                )
                self._free(cursor, run_id)
            return bool(marked)

        marked = self.database.write(work)
        _broken_off.pop(run_id, None)
        return marked

    # The publisher's side: ports.Outbox

    def pending(self, destination: str, limit: int) -> list[Publication]:
        """Return up to *limit* runs whose newest revision was not delivered to *destination*, parents first."""
        return self._outbox.pending(destination, limit)

    def delivered(self, destination: str, receipts: Sequence[Receipt]) -> None:
        """Remember that these revisions were delivered, and under which MLflow run ids."""
        self._outbox.delivered(destination, receipts)

    # What Flights needs to know of the world

    def _orchestrator(self, run_id: str) -> Orchestrator:
        known = self._orchestrators.get(run_id)
        if known is None:
            found = self.database.read(lambda cursor: _all(cursor, self._statements.orchestrator, (run_id,)))
            known = Orchestrator(*found[0]) if found else Orchestrator(this_host(), this_process())
            self._orchestrators[run_id] = known
        return known

    def _is_over(self, run_id: str, host: str, process: str) -> bool:
        return run_id in _broken_off or self._lives.gone(host, process)


def _unheard() -> Any:
    """Return what holds for effects of which an attempt was begun and never ended."""
    steps = tables.step_runs.c
    ended = select(func.count()).where(tables.attempts.c.step_run_id == steps.step_run_id).scalar_subquery()
    return steps.effect & (steps.status == Status.RUNNING.value) & (steps.attempts > ended)


@contextmanager
def _remembering_ends(ended: Sequence[RunEnded]) -> Iterator[None]:
    try:
        yield
    except LedgerError:
        _broken_off.update((record.run_id, record.message) for record in ended)
        raise


def _all(cursor: Cursor, statement: Prepared, parameters: tuple[Any, ...]) -> list[Any]:
    cursor.execute(statement.sql, parameters)
    return cursor.fetchall()
