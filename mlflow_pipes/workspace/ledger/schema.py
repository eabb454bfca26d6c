"""Making the ledger's tables and bringing older ones up to date; safe when several processes do it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import insert, inspect, select

from mlflow_pipes.errors import LedgerError
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.workspace.ledger.backends import Cursor
from mlflow_pipes.workspace.ledger.connection import Database
from mlflow_pipes.workspace.ledger.tables import SCHEMA_VERSION, counters, metadata, schema_version

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_TIMEOUT_S = 300.0  # a migration of a large ledger


def make_ready(database: Database, lock_file: Path | None) -> None:
    """Make the tables where there are none, or migrate them to this package's version.

    *lock_file* keeps other processes out meanwhile (None where a transaction's lock does, or nobody else is). A ledger
    that is up to date costs two queries.

    Raises:
        LedgerError: the ledger was made by a newer version of this package.
    """
    if stored_version(database) == SCHEMA_VERSION:
        return
    with _alone(lock_file):
        database.write(lambda cursor: _make_or_migrate(database, cursor), patience_s=_LOCK_TIMEOUT_S)


def _make_or_migrate(database: Database, cursor: Cursor) -> None:
    version = stored_version(database)
    if version == SCHEMA_VERSION:
        return
    if version is None:
        database.backend.make_room(cursor)
        _make(database)
    else:
        _check_known(version, database.place)
        _migrate(database)


def stored_version(database: Database) -> str | None:
    """Return the ledger's schema version; None for an empty database."""
    if not database.read(lambda _cursor: inspect(database.core()).has_table(schema_version.name)):
        return None
    rows = database.rows(select(schema_version.c.version_num))
    return str(rows[0][0]) if rows else None


def _make(database: Database) -> None:
    connection = database.core()
    metadata.create_all(connection, checkfirst=True)
    schema_version.create(connection, checkfirst=True)
    database.change(insert(schema_version).values(version_num=SCHEMA_VERSION))
    database.change(insert(counters).values(id=1, revision=0, token=0))


def _check_known(version: str, place: str) -> None:
    if version > SCHEMA_VERSION:  # ids are numbers of fixed width
        raise LedgerError(
            f"the ledger {place} was written by a newer mlflow_pipes (its schema is {version}, this version knows "
            f"{SCHEMA_VERSION}): upgrade mlflow_pipes, or use another workspace"
        )


def _migrate(database: Database) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = database.core()
    command.upgrade(config, "head")


@contextmanager
def _alone(lock_file: Path | None) -> Iterator[None]:
    if lock_file is None:
        yield
        return
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(lock_file, what="preparing the ledger", timeout_s=_LOCK_TIMEOUT_S))
        except OSError as error:
            raise LedgerError(f"cannot write in {lock_file.parent}: {error.strerror or error}") from error
        yield
