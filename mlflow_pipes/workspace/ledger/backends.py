"""The SQL databases that a ledger can be on: all that differs between them."""

from __future__ import annotations

import enum
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.workspace.ledger.place import PostgresqlPlace
from mlflow_pipes.workspace.ledger.tables import for_postgresql


class Cursor(Protocol):
    """What we use of a DBAPI cursor."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...  # noqa: D102
    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> Any: ...  # noqa: D102
    def fetchall(self) -> list[Any]: ...  # noqa: D102
    def fetchone(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Trouble(enum.Enum):
    """What an error of a driver means for the transaction that met it."""

    FINAL = enum.auto()
    """It would end the same again."""
    BUSY = enum.auto()
    """Others were first: the connection is good for another try."""
    AWAY = enum.auto()
    """The connection is lost or the database cannot be reached now: another try needs a new connection."""


class Backend(Protocol):
    """A kind of database, and where it is.

    Attributes:
        place: for messages; holds no password.
        url: for SQLAlchemy.
        options: for ``create_engine``.
        begin: statements that begin a transaction and wait for the one lock that all writers of a ledger take in turns.
        shared: whether other machines can reach it: it has a clock of its own.
    """

    place: str
    url: URL
    options: dict[str, Any]
    begin: tuple[str, ...]
    shared: bool

    def tune(self, cursor: Cursor) -> None:
        """Make a new connection ready."""
        ...

    def together(self, driver: Any, cursor: Cursor) -> AbstractContextManager[Cursor]:
        """Give a cursor whose statements travel together, where they travel: until an answer is fetched."""
        ...

    def make_room(self, cursor: Cursor) -> None:
        """Inside a transaction: see to it that tables can be made."""
        ...

    def trouble(self, error: BaseException) -> Trouble:
        """Return what a driver's error means."""
        ...

    def remedy(self, error: BaseException) -> str:
        """Return what may help, as sentences without the last point; empty when nothing is known."""
        ...


class SqliteBackend:
    """A SQLite file (any characters in its path), or a private database in memory for ``:memory:``."""

    # IMMEDIATE: the write lock is taken at the start, else two readers that both want to write fail instead of waiting.
    begin: tuple[str, ...] = ("BEGIN IMMEDIATE",)
    shared = False

    def __init__(self, path: Path | str) -> None:
        self.place = str(path)
        self.url = URL.create("sqlite", database=str(path))
        # SQLite waits in C, where Ctrl-C is not heard: not for long at a time.
        self.options = {"connect_args": {"check_same_thread": False, "timeout": 5.0}}

    def tune(self, cursor: Cursor) -> None:
        """Set what SQLite forgets between connections."""
        # WAL: readers never wait for a writer. NORMAL: no fsync at a commit; a killed process loses nothing, a power
        # cut may lose the last commits but never the database's consistency (https://sqlite.org/pragma.html#pragma_synchronous).
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        cursor.execute("PRAGMA cache_size=-16384")
        # Pages that are written again and again, such as those of indices, go to the file and its disk once in 40 MB.
        cursor.execute("PRAGMA wal_autocheckpoint=10000")

    def together(self, driver: Any, cursor: Cursor) -> AbstractContextManager[Cursor]:
        """Give the cursor as it is: nothing travels."""
        del driver
        return nullcontext(cursor)

    def make_room(self, cursor: Cursor) -> None:
        """Nothing to do: a file has room."""

    def trouble(self, error: BaseException) -> Trouble:
        """Return what a driver's error means."""
        name = str(getattr(error, "sqlite_errorname", ""))
        return Trouble.BUSY if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) else Trouble.FINAL

    def remedy(self, error: BaseException) -> str:
        """Return what may help."""
        name = str(getattr(error, "sqlite_errorname", ""))
        return next((text for code, text in _SQLITE_REMEDIES.items() if name.startswith(code)), "")


_DAMAGED = (
    "file is damaged: restore it from a backup, or move it and its -wal and -shm files away and run again; without "
    "it the history of runs is lost, and steps are computed anew"
)
# Beginnings of the names of SQLite's result codes (https://sqlite.org/rescode.html), extended ones included.
_SQLITE_REMEDIES = {
    "SQLITE_FULL": "Free space there, remove what is no longer needed with `pipes gc`, or use another workspace",
    "SQLITE_CORRUPT": f"The {_DAMAGED}",
    "SQLITE_NOTADB": f"The {_DAMAGED}",
    "SQLITE_BUSY": "Another process holds it: end that one, or continue it",
    "SQLITE_READONLY": "Give this user write permission on it and its folder, or use another workspace",
    "SQLITE_PERM": "Give this user write permission on it and its folder, or use another workspace",
    "SQLITE_CANTOPEN": "Check that it is a file in a folder that this user may write, and that the disk is not full",
    "SQLITE_IOERR": f"Check the disk and the space on it. If they are well, the {_DAMAGED}",
}

# A server that does not answer is given up after this; one that vanishes (a cable, a suspended machine) as well.
_CONNECT_TIMEOUT_S = 5
_SILENCE_MS = 30_000
# Nobody may keep the others out: a process that stops inside a transaction (Ctrl-Z, a laptop's lid) loses it. Who waits
# for the lock asks again after a time, so that patience can end; not soon, for asking again is to queue at the end.
_SESSION = (
    "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = warning"
)


class _PipelineCursor:
    """A new cursor for each statement.

    Results of a pipeline come when they come, also those that nobody fetches. A cursor of psycopg that is used again
    takes the late result of its last statement for that of the next.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._newest: Any = None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._newest = self._driver.cursor()
        self._newest.execute(sql, parameters or None)

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        self._newest = self._driver.cursor()
        self._newest.executemany(sql, parameters)

    def fetchall(self) -> list[Any]:
        return list(self._newest.fetchall())

    def fetchone(self) -> Any:
        return self._newest.fetchone()

    def close(self) -> None:
        """Nothing to do: each was used once."""


def _worth_telling(record: logging.LogRecord) -> bool:
    # psycopg tells of a lost connection here and raises it as well; we tell of it ourselves, when it lasts.
    return not str(record.msg).startswith("error ignored")


class PostgresqlBackend:
    """A schema of a PostgreSQL database, through psycopg 3."""

    shared = True

    def __init__(self, place: PostgresqlPlace) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigurationError(
                f"the ledger {place} needs psycopg, which is not installed: pip install 'mlflow_pipes[postgresql]'"
            ) from error
        for_postgresql()
        self._no_connection = psycopg.OperationalError
        logging.getLogger("psycopg").addFilter(_worth_telling)
        self.place = str(place)
        self._schema = place.schema
        connection = {
            "connect_timeout": str(_CONNECT_TIMEOUT_S), "tcp_user_timeout": str(_SILENCE_MS), "keepalives_idle": "10",
            "keepalives_interval": "5", "keepalives_count": "4", "application_name": "mlflow_pipes",
        }  # fmt: skip
        self.url = URL.create(
            "postgresql+psycopg", place.user, place.password, place.host, place.port, place.database,
            {**connection, **place.options},
        )  # fmt: skip
        # Positions, not names, in the statements of the hot path; no question about a type that we do not use.
        self.options = {"paramstyle": "format", "use_native_hstore": False}
        lock = int.from_bytes(
            hashlib.sha256(f"pipes.ledger/1 {place.schema}".encode()).digest()[:8], "big", signed=True
        )
        # READ COMMITTED, whatever the server's default: what is read after the lock was got is the newest.
        self.begin: tuple[str, ...] = ("BEGIN ISOLATION LEVEL READ COMMITTED", f"SELECT pg_advisory_xact_lock({lock})")

    def tune(self, cursor: Cursor) -> None:
        """Set what holds for the session; the schema may not be there yet."""
        cursor.execute(f"SET search_path = {self._schema}; {_SESSION}")

    @contextmanager
    def together(self, driver: Any, cursor: Cursor) -> Iterator[Cursor]:
        """Use psycopg's pipeline: a transaction of a dozen statements waits for the network about four times."""
        del cursor
        with driver.pipeline():
            yield _PipelineCursor(driver)

    def make_room(self, cursor: Cursor) -> None:
        """Make the schema, unless it is there: then nobody need be allowed to make one."""
        cursor.execute("SELECT to_regnamespace(%s) IS NULL", (self._schema,))
        if cursor.fetchone()[0]:
            cursor.execute(f"CREATE SCHEMA {self._schema}")

    def trouble(self, error: BaseException) -> Trouble:
        """Return what a driver's error means."""
        state = str(getattr(error, "sqlstate", None) or "")
        if state in _BUSY_STATES:
            return Trouble.BUSY
        lost = not state and isinstance(error, self._no_connection)
        return Trouble.AWAY if lost or state[:2] == "08" or state in _AWAY_STATES else Trouble.FINAL

    def remedy(self, error: BaseException) -> str:
        """Return what may help."""
        state = str(getattr(error, "sqlstate", None) or "")
        told = str(error)
        if "password" in told or "authentication" in told or "no pg_hba.conf entry" in told:
            return "Check user and password: in the URL, PGPASSWORD, or ~/.pgpass"
        if 'database "' in told and "does not exist" in told:
            return "Make it (createdb), or correct the name in the URL"
        if state == "42501":
            return f"Have somebody who may make it for this user: CREATE SCHEMA {self._schema} AUTHORIZATION ..."
        if state == "55P03":
            return "Another process holds its lock: end that one, or continue it"
        if self.trouble(error) is Trouble.AWAY:
            return "Check that the server runs and that host and port are right; `pipes doctor` tries again"
        return ""


# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BUSY_STATES = frozenset({
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock not available within lock_timeout
})  # fmt: skip
_AWAY_STATES = frozenset({
    "57P01", "57P02", "57P03", "57P05",  # the server goes down, went down, comes up; the session was idle for too long
    "25P03",  # we were stopped inside a transaction for too long
    "25006",  # read only: we are still at a server that another one took over from
    "53300",  # too many connections, for now
})  # fmt: skip
