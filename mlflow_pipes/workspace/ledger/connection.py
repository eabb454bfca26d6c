"""One connection to the ledger's database, for threads to share; patient with a database that is busy or away."""

from __future__ import annotations

import atexit
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Dialect, Executable, Table, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from mlflow_pipes.errors import InternalError, LedgerError
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.ledger.backends import Backend, Cursor, Trouble

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

# So long a database may be busy or away before whoever needs it is told.
PATIENCE_S = 60.0
# Between two tries: the first pause doubles up to the longest.
_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 1.0
# Longer waiting is told of while it lasts.
_TELL_AFTER_S = 2.0
# Clocks that differ by less are taken to be the same: the difference is measured over a network.
_SAME_TIME_S = 0.5

_CLOCKS = "SELECT extract(epoch FROM clock_timestamp())::float8, extract(epoch FROM pg_postmaster_start_time())::float8"

_R = TypeVar("_R")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as its dialect's SQL text, whose parameters are given by position.

    The hot path runs these on the driver's cursor: through SQLAlchemy's ``Connection.execute`` each statement costs
    16 µs more (measured, 39 against 22 µs for a whole one-insert transaction), and an exchange has eight.
    """

    sql: str
    names: tuple[str, ...]


def prepare(statement: Any, dialect: Dialect, names: Sequence[str] | None = None) -> Prepared:
    """Compile a Core statement; *names* states the order in which the caller gives the parameters."""
    compiled: SQLCompiler = statement.compile(dialect=dialect)
    found = tuple(compiled.positiontup or ())
    if names is not None and found != tuple(names):
        raise InternalError(f"statement takes {found}, its caller gives {tuple(names)}")
    return Prepared(str(compiled), found)


def insert_into(table: Table, dialect: Dialect) -> Any:
    """Return an INSERT that has ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    if dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # 65 ms that a SQLite ledger need not pay

        return postgresql.insert(table)
    return sqlite.insert(table)


class Database:
    """A connection that several threads may use, one at a time.

    What is asked of it is asked again when others were first (a lock, a deadlock) or the connection is lost, for
    *patience_s*; then it is an error, and from there on until it is well again each question is asked once. So a
    transaction may be done twice when the connection is lost while it is committed: it must come to the same.

    Transactions are begun and ended by hand (the driver is in autocommit mode).

    Attributes:
        clock_ahead_s: how far the clock of a shared database is ahead of this process's.
        up_since: when a shared database last started, by its clock; 0 when it has no clock of its own.
    """

    def __init__(
        self, backend: Backend, *, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.time
    ) -> None:
        self.backend = backend
        self.place = backend.place
        self.clock_ahead_s = 0.0
        self.up_since = 0.0
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.RLock()
        self._within = False
        self._is_well = True
        self._closed = False
        if backend.shared:
            _connected.add(self)
        # Nothing to reset when a connection goes back: transactions are ours, and the database may be closed by then.
        self._engine = create_engine(
            backend.url,
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
            pool_reset_on_return=None,
            **backend.options,
        )
        self.dialect = self._engine.dialect
        self._driver_error: type[Exception] = self.dialect.loaded_dbapi.Error
        self._connection: Connection | None = None
        self._driver: Any = None
        self._cursor: Cursor
        try:
            self._connect()
        except (SQLAlchemyError, self._driver_error) as error:
            self.close()
            raise self._error("open", _cause(error)) from error

    # What others ask

    def write(
        self, work: Callable[[Cursor], _R], *, by_cursor_alone: bool = False, patience_s: float | None = None
    ) -> _R:
        """Do *work* in a transaction that holds the write lock; committed at its end, rolled back on any error.

        *work* is done again from its beginning when the transaction has to be. When it asks everything *by its cursor
        alone*, none of it through :meth:`rows` and :meth:`change`, fewer of its statements wait for the network.
        """

        def once() -> _R:
            with self._transaction(together=by_cursor_alone) as cursor:
                return work(cursor)

        return self._patiently("write", once, patience_s)

    def read(self, work: Callable[[Cursor], _R]) -> _R:
        """Do *work*, single statements that only read; no transaction, no lock on the database."""
        return self._patiently("read", lambda: work(self._cursor))

    def rows(self, statement: Executable, parameters: dict[str, Any] | None = None) -> Sequence[Any]:
        """Return the rows of a Core query, alone or inside :meth:`write`."""
        return self._patiently("read", lambda: self.core().execute(statement, parameters or {}).fetchall())

    def change(self, statement: Executable, parameters: Any = None) -> int:
        """Run a changing Core statement, alone or inside :meth:`write`; return the number of rows it met."""
        return self._patiently("write", lambda: int(self.core().execute(statement, parameters or {}).rowcount))

    def core(self) -> Connection:
        """Return SQLAlchemy's connection, for making and migrating tables inside :meth:`write`.

        To SQLAlchemy it is in a transaction (of which the driver, in autocommit mode, knows nothing), so that nobody
        who is given it begins one and commits ours with it.
        """
        connection = self._open()
        if not connection.in_transaction():
            connection.begin()
        return connection

    def look_at_clock(self) -> None:
        """Compare the clock of a shared database with this process's: claims are dated by the database's."""
        if self.backend.shared:
            self._patiently("read", self._compare_clocks)

    def close(self) -> None:
        """Close the connection; idempotent."""
        with self._lock:
            self._closed = True
            self._drop()
            self._engine.dispose()

    def __del__(self) -> None:
        """Close what nobody closed at once: SQLAlchemy's objects are cycles, and their files would pile up."""
        if getattr(self, "_connection", None) is not None:
            with suppress(Exception):  # the interpreter may be ending
                self.close()

    # The connection

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        try:
            self._driver = connection.connection.dbapi_connection
            assert self._driver is not None
            self._cursor = self._driver.cursor()
            self.backend.tune(self._cursor)
            if self.backend.shared:
                self._compare_clocks()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _compare_clocks(self) -> None:
        asked = self._clock()
        self._cursor.execute(_CLOCKS)
        theirs, self.up_since = self._cursor.fetchone()
        ahead = theirs - (asked + self._clock()) / 2
        self.clock_ahead_s = ahead if abs(ahead) > _SAME_TIME_S else 0.0

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, self._driver_error):
                self._cursor.close()
            with suppress(SQLAlchemyError, self._driver_error):
                connection.close()

    def _open(self) -> Connection:
        if self._closed:
            raise LedgerError(f"the ledger {self.place} was closed; open the workspace again")
        return self._connection or self._connect()

    # Transactions

    @contextmanager
    def _transaction(self, *, together: bool) -> Iterator[Cursor]:
        self._within = True
        try:
            travelling = self.backend.together(self._driver, self._cursor) if together else nullcontext(self._cursor)
            with travelling as cursor:
                # Inside, because Ctrl-C may come just after it; rolling back what was not begun is harmless.
                for sql in self.backend.begin:
                    cursor.execute(sql)
                yield cursor
                cursor.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._within = False

    def _roll_back(self) -> None:
        try:
            self._cursor.execute("ROLLBACK")
        except self._driver_error:
            # SQLite: nothing was begun, or it has rolled back by itself (disk full, I/O error): the first error counts.
            if self.backend.shared:
                self._drop()

    # Patience

    def _patiently(self, doing: str, attempt: Callable[[], _R], patience_s: float | None = None) -> _R:
        """Return what *attempt* returns, tried again after trouble that passes; LedgerError for what does not."""
        with self._lock:
            if self._within:
                return attempt()  # the whole transaction is tried again, not a part of it
            patience_s = self._patience_s if patience_s is None else patience_s
            wait = _Wait(self.place, patience_s if self._is_well else 0.0)
            while True:
                try:
                    self._open()
                    found = attempt()
                except (self._driver_error, DBAPIError) as error:
                    cause = _cause(error)
                    trouble = self.backend.trouble(cause)
                    if trouble is Trouble.AWAY:
                        self._drop()
                    self._is_well = trouble is Trouble.FINAL  # now, since Ctrl-C may end the pause
                    if trouble is Trouble.FINAL or not wait.pause(_first_line(cause)):
                        raise self._error(doing, cause, wait.waited_s) from error
                else:
                    self._is_well = True
                    wait.over()
                    return found

    def _error(self, doing: str, cause: BaseException, waited_s: float = 0.0) -> LedgerError:
        remedy = self.backend.remedy(cause)
        waited = f" (for {waited_s:.0f} s now)" if waited_s >= 1.0 else ""
        return LedgerError(
            f"cannot {doing} the ledger {self.place}{waited}: {_first_line(cause)}" + (f". {remedy}." if remedy else "")
        )


# To servers. What this process leaves open at its end is closed in order, so that the driver has nothing to warn of.
_connected: weakref.WeakSet[Database] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for database in list(_connected):
        with suppress(Exception):
            database.close()


class _Wait:
    """The waiting for one question's answer: pauses that grow, until patience ends; told of once when it is long."""

    def __init__(self, place: str, patience_s: float) -> None:
        self._place = place
        self._patience_s = patience_s
        self._pause_s = _PAUSE_S
        self._began: float | None = None
        self._told = False

    @property
    def waited_s(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def pause(self, why: str) -> bool:
        """Wait a little; False, at once, when patience has ended."""
        if self._began is None:
            self._began = time.monotonic()
        left_s = self._patience_s - self.waited_s
        if left_s <= 0:
            return False
        if self.waited_s > _TELL_AFTER_S and not self._told:
            _log.warning("the ledger %s: %s. Waiting for it, %.0f s at most", self._place, why, left_s)
            self._told = True
        time.sleep(min(left_s, self._pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 - so that two do not meet again
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return True

    def over(self) -> None:
        if self._told:
            _log.warning("the ledger %s is there again after %.0f s", self._place, self.waited_s)


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
