"""One connection to the ledger's database, for threads to share; all that differs between SQL dialects is here."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import URL, Connection, Dialect, Executable, Table, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from mlflow_pipes.errors import InternalError, LedgerError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.sql.compiler import SQLCompiler

_BUSY_TIMEOUT_S = 30.0


class Cursor(Protocol):
    """What we use of a DBAPI cursor."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...  # noqa: D102
    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> Any: ...  # noqa: D102
    def fetchall(self) -> list[Any]: ...  # noqa: D102
    def fetchone(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


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

    Transactions are begun and ended by hand (the driver is in autocommit mode): SQLite must take its write lock at
    the start (BEGIN IMMEDIATE), else two readers that both want to write fail instead of waiting.
    """

    def __init__(self, url: URL, place: str) -> None:
        self.place = place
        self._lock = threading.RLock()
        self._local = url.get_backend_name() == "sqlite"
        # Nothing to reset when a connection goes back: transactions are ours, and the database may be closed by then.
        options: dict[str, Any] = {"pool_reset_on_return": None}
        if self._local:
            options["connect_args"] = {"check_same_thread": False, "timeout": _BUSY_TIMEOUT_S}
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=StaticPool, **options)
        self.dialect = self._engine.dialect
        self._begin = "BEGIN IMMEDIATE" if self._local else "BEGIN"
        self._connection: Connection | None = None
        try:
            self._connection = self._engine.connect()
            driver = self._connection.connection.dbapi_connection
            assert driver is not None
            self._driver_error: type[Exception] = self.dialect.loaded_dbapi.Error
            self._cursor: Cursor = driver.cursor()  # type: ignore[assignment]
            if self._local:
                _tune_sqlite(self._cursor)
        except (SQLAlchemyError, self.dialect.loaded_dbapi.Error) as error:
            self._engine.dispose()
            raise LedgerError(f"cannot open the ledger {place}: {_told(error)}") from error

    @contextmanager
    def write(self) -> Iterator[Cursor]:
        """Run a transaction that holds the write lock; committed at the end, rolled back on any error."""
        with self._lock, self.translated("write"):
            self._open()
            cursor = self._cursor
            try:
                # Inside, because Ctrl-C may come just after it; rolling back what was not begun is harmless.
                cursor.execute(self._begin)
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def read(self) -> Iterator[Cursor]:
        """Give the cursor for single statements that only read; no transaction, no lock on the database."""
        with self._lock, self.translated("read"):
            self._open()
            yield self._cursor

    def rows(self, statement: Executable, parameters: dict[str, Any] | None = None) -> Sequence[Any]:
        """Return the rows of a Core query."""
        with self._lock, self.translated("read"):
            return self._open().execute(statement, parameters or {}).fetchall()

    def change(self, statement: Executable, parameters: Any = None) -> int:
        """Run a changing Core statement, alone or inside :meth:`write`; return the number of rows it met."""
        with self._lock, self.translated("write"):
            return int(self._open().execute(statement, parameters or {}).rowcount)

    def core(self) -> Connection:
        """Return SQLAlchemy's connection, for making and migrating tables inside :meth:`write`.

        To SQLAlchemy it is in a transaction (of which the driver, in autocommit mode, knows nothing), so that nobody
        who is given it begins one and commits ours with it.
        """
        connection = self._open()
        if not connection.in_transaction():
            connection.begin()
        return connection

    def close(self) -> None:
        """Close the connection; idempotent."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                self._cursor.close()
                self._engine.dispose()

    def __del__(self) -> None:
        """Close what nobody closed at once: SQLAlchemy's objects are cycles, and their files would pile up."""
        if getattr(self, "_connection", None) is not None:
            with suppress(Exception):  # the interpreter may be ending
                self.close()

    def _open(self) -> Connection:
        if self._connection is None:
            raise LedgerError(f"the ledger {self.place} was closed; open the workspace again")
        return self._connection

    def _roll_back(self) -> None:
        try:
            self._cursor.execute("ROLLBACK")
        except self._driver_error:
            # Nothing was begun, or SQLite has rolled back by itself (disk full, I/O error): the first error counts.
            return

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Raise a LedgerError, with the remedy, for what the driver raises inside."""
        try:
            yield
        except (self._driver_error, DBAPIError) as error:
            raise LedgerError(f"cannot {doing} the ledger {self.place}: {_told(error)}") from error


def _tune_sqlite(cursor: Cursor) -> None:
    # WAL: readers never wait for a writer. NORMAL: no fsync at a commit; a killed process loses nothing, a power
    # cut may lose the last commits but never the database's consistency (https://sqlite.org/pragma.html#pragma_synchronous).
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.execute("PRAGMA cache_size=-16384")


def sqlite_url(path: Path | str) -> URL:
    """Return the URL of a SQLite file (any characters), or of a private database in memory for ``:memory:``."""
    return URL.create("sqlite", database=str(path))


_DAMAGED = (
    "file is damaged: restore it from a backup, or move it and its -wal and -shm files away and run again; without "
    "it the history of runs is lost, and steps are computed anew"
)
# Beginnings of the names of SQLite's result codes (https://sqlite.org/rescode.html), extended ones included.
_REMEDIES = {
    "SQLITE_FULL": "Free space there, remove what is no longer needed with `pipes gc`, or use another workspace",
    "SQLITE_CORRUPT": f"The {_DAMAGED}",
    "SQLITE_NOTADB": f"The {_DAMAGED}",
    "SQLITE_BUSY": f"Another process has held it for {_BUSY_TIMEOUT_S:g} s: end that one, or continue it",
    "SQLITE_READONLY": "Give this user write permission on it and its folder, or use another workspace",
    "SQLITE_PERM": "Give this user write permission on it and its folder, or use another workspace",
    "SQLITE_CANTOPEN": "Check that it is a file in a folder that this user may write, and that the disk is not full",
    "SQLITE_IOERR": f"Check the disk and the space on it. If they are well, the {_DAMAGED}",
}


def _told(error: BaseException) -> str:
    """Return what the driver says, in one line, and what may help."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    line = (str(cause) or type(cause).__name__).splitlines()[0]
    name = str(getattr(cause, "sqlite_errorname", ""))
    remedy = next((text for code, text in _REMEDIES.items() if name.startswith(code)), "")
    return f"{line}. {remedy}." if remedy else line
