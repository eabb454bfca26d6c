"""The hot path's statements: written in SQLAlchemy Core, compiled once for the ledger's dialect."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Dialect,
    String,
    Table,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    update,
)

from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.connection import Prepared, insert_into, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Columns of a declared step; the rest is NULL until something happens.
_DECLARED = ("step_run_id", "run_id", "node", "name", "kind", "parent_id", "parameters", "tags", "parents", "position",
             "status", "effect", "named_by")  # fmt: skip

# Columns that a StepChanged sets: always, and only when it carries a value. The step_run_id comes last.
_SET = ("status", "started_at", "ended_at", "key", "code", "inputs", "output", "reused_from", "reason", "target",
        "worker", "attempts", "revision")  # fmt: skip
_ALWAYS_SET = frozenset({"status", "ended_at"})

# Keys of one look-up query; larger batches are cut. Well below the parameter limits of both dialects.
KEYS_AT_ONCE = 512
# Steps of which the entries are read ahead together.
BEHIND_AT_ONCE = 4_000


class Statements:
    """Every statement of ``exchange`` and ``heartbeat``."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._takes_arrays = dialect.name == "postgresql"
        one: ColumnElement[int] = literal_column("1")
        counters = tables.counters
        self.next_revision = self._prepare(
            update(counters)
            .where(counters.c.id == one)
            .ordered_values((counters.c.revision, counters.c.revision + one))
            .returning(counters.c.revision, counters.c.token),
        )
        self.give_tokens = self._prepare(
            update(counters).where(counters.c.id == one).values(token=bindparam("last")), "last"
        )
        self.insert_run = self._insert(tables.runs, again=True)
        self.end_run = self._prepare(
            update(tables.runs)
            .where(tables.runs.c.run_id == bindparam("id"))
            .ordered_values(*((tables.runs.c[name], bindparam(name)) for name in _END)),
            *_END,
            "id",
        )
        self.insert_call = self._insert(tables.calls, again=True)
        self.insert_step = self._insert(tables.step_runs, _DECLARED, again=True)
        self.change_step = self._prepare(_change_step(), *(f"new_{name}" for name in _SET), "id")
        self.touch_step = self._prepare(
            update(tables.step_runs)
            .where(tables.step_runs.c.step_run_id == bindparam("id"))
            .values(revision=bindparam("now")),
            "now",
            "id",
        )
        self.put_attempt = self._upsert(tables.attempts)
        self.insert_sample = self._insert(tables.usage_samples, again=True)
        self.drop_metrics = self._prepare(
            delete(tables.metrics).where(tables.metrics.c.step_run_id == bindparam("id")), "id"
        )
        self.insert_metric = self._insert(tables.metrics)
        self.put_tracked = self._upsert(tables.tracked)
        self.put_code = self._prepare(
            insert_into(tables.code_fingerprints, dialect).on_conflict_do_nothing(), "digest", "leaves"
        )
        self.put_entry = self._upsert(tables.cache_entries)
        self.drop_entry = self._prepare(
            delete(tables.cache_entries).where(tables.cache_entries.c.key == bindparam("k")), "k"
        )
        self.put_claim = self._upsert(tables.claims)
        self.drop_claim = self._prepare(delete(tables.claims).where(tables.claims.c.key == bindparam("k")), "k")
        self.drop_claims_of_run = self._prepare(
            delete(tables.claims).where(tables.claims.c.run_id == bindparam("id")), "id"
        )
        self._prepare_tokens()
        self.put_duration = self._upsert(tables.durations)
        self.entries = functools.cache(self._entries)
        self.claims = functools.cache(self._claims)
        self.entries_behind = self._prepare(_entries_behind(), "id")
        self.alive = self._prepare(
            update(tables.runs)
            .where(tables.runs.c.run_id == bindparam("id"), tables.runs.c.ended_at.is_(None))
            .values(heartbeat_at=bindparam("now"))
            .returning(tables.runs.c.cancel_requested),
            "now",
            "id",
        )
        requests = tables.cancel_requests.c
        self.put_cancel_request = self._upsert(tables.cancel_requests)
        self.cancel_requests = self._prepare(
            select(requests.node, requests.reason)
            .where(requests.run_id == bindparam("id"))
            .order_by(requests.at, requests.node),
            "id",
        )
        self.orchestrator = self._prepare(
            select(tables.runs.c.host, tables.runs.c.process).where(tables.runs.c.run_id == bindparam("id")), "id"
        )
        self.last_sign = self._prepare(
            select(tables.runs.c.heartbeat_at).where(tables.runs.c.run_id == bindparam("id")), "id"
        )
        self.count_claims = self._prepare(
            select(func.count()).select_from(tables.claims).where(tables.claims.c.run_id == bindparam("id")), "id"
        )
        self.tokens_of_run = self._prepare(
            select(tables.claims.c.token).where(tables.claims.c.run_id == bindparam("id")), "id"
        )

    def _prepare_tokens(self) -> None:
        requests = tables.token_requests
        mine = requests.c.run_id == bindparam("id")
        self.token_requests = self._prepare(select(requests))
        self.put_token_request = self._upsert(requests)
        self.drop_token_request = self._prepare(
            delete(requests).where(mine, requests.c.node == bindparam("of")), "id", "of"
        )
        self.drop_token_requests_of_run = self._prepare(delete(requests).where(mine), "id")
        self.renew_tokens = self._prepare(
            update(requests).where(mine, requests.c.held).values(expires_at=bindparam("to")), "to", "id"
        )
        self.insert_token_wait = self._insert(tables.token_waits, again=True)

    def _prepare(self, statement: Any, *names: str) -> Prepared:
        return prepare(statement, self._dialect, names)

    def _insert(self, table: Table, columns: Sequence[str] | None = None, *, again: bool = False) -> Prepared:
        """Return an INSERT; with *again* it may come again: the connection may be lost in its transaction's commit."""
        names = columns or tuple(table.c.keys())
        statement = insert_into(table, self._dialect).values({name: bindparam(name) for name in names})
        if again:
            statement = statement.on_conflict_do_nothing()
        return self._prepare(statement, *names)

    def _upsert(self, table: Table) -> Prepared:
        names = tuple(table.c.keys())
        key = [column.name for column in table.primary_key]
        statement = insert_into(table, self._dialect).values({name: bindparam(name) for name in names})
        replaced = {name: statement.excluded[name] for name in names if name not in key}
        return self._prepare(statement.on_conflict_do_update(index_elements=key, set_=replaced), *names)

    def _entries(self, count: int) -> Prepared:
        return self._keyed(select(*_ENTRY), tables.cache_entries.c.key, count)

    def _claims(self, count: int) -> Prepared:
        claims = tables.claims.c
        columns = (claims.key, claims.run_id, claims.token, claims.host, claims.process, claims.expires_at)
        return self._keyed(select(*columns), claims.key, count)

    def of_keys(self, question: Callable[[int], Prepared], keys: Sequence[str]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield SQL and parameters of the statements that ask *question* of these keys.

        PostgreSQL takes an array; for SQLite counts are rounded up to powers of two, so that few statements are
        compiled.
        """
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = list(keys[start : start + KEYS_AT_ONCE])
            if self._takes_arrays:
                yield question(1).sql, (some,)
            else:
                count = 1 << (len(some) - 1).bit_length()
                yield question(count).sql, some + some[-1:] * (count - len(some))

    def _keyed(self, query: Any, key: Any, count: int) -> Prepared:
        if self._takes_arrays:
            return self._prepare(query.where(key == any_(bindparam("keys", type_=ARRAY(String)))), "keys")
        names = [f"k{number}" for number in range(count)]
        return self._prepare(query.where(key.in_([bindparam(name) for name in names])), *names)


_compiled: dict[tuple[str, str], Statements] = {}


def statements_for(dialect: Dialect) -> Statements:
    """Return the statements for a dialect, compiled once a process."""
    key = (dialect.name, dialect.paramstyle)
    if key not in _compiled:
        _compiled[key] = Statements(dialect)
    return _compiled[key]


_ENTRY = tuple(
    tables.cache_entries.c[name] for name in ("key", "output", "step_run_id", "made_at", "duration_s", "reuse")
)


def _entries_behind() -> Any:
    """Return what asks for the entries of the steps declared behind one, in the same run."""
    of, later, entries = tables.step_runs.alias("of"), tables.step_runs.alias("later"), tables.cache_entries
    position = of.c.position
    behind = later.c.position.between(position + literal_column("1"), position + literal_column(str(BEHIND_AT_ONCE)))
    joined = of.join(later, (later.c.run_id == of.c.run_id) & behind).join(entries, entries.c.key == later.c.key)
    return select(*_ENTRY).select_from(joined).where(of.c.step_run_id == bindparam("id"))


_END = ("status", "ended_at", "output", "message", "revision")


def _change_step() -> Any:
    steps = tables.step_runs.c
    values = []
    for name in _SET:
        new = bindparam(f"new_{name}", type_=steps[name].type)
        values.append((steps[name], new if name in _ALWAYS_SET else func.coalesce(new, steps[name])))
    return update(tables.step_runs).where(steps.step_run_id == bindparam("id")).ordered_values(*values)
