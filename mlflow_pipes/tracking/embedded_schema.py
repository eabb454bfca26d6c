"""The schema of the MLflow database that we own: made by MLflow's migrations, written to only when known exactly."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.tracking.quiet import settle

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger(__name__)

# Schema revisions (Alembic's heads) whose tables ``embedded_rows`` was checked against, and the MLflow that has them.
KNOWN_REVISIONS = {"dc11669786a5": "3.17"}


def installed_mlflow() -> str:
    """Return the version of the installed MLflow without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    for distribution in ("mlflow", "mlflow-skinny"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise TrackingError("MLflow is not installed: `pip install mlflow-skinny`, or `pip install mlflow` for its UI")


def revision(database: Path) -> str | None:
    """Return a database's schema revision; None when it has none (yet)."""
    try:
        with sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        if "connection" in locals():
            connection.close()
    return str(found[0]) if found else None


def ensure(database: Path) -> str | None:
    """Make the database if it is not there, bring it to the installed MLflow's schema, return its revision.

    A new one is made under another name and moved into place when it is whole (about 4 s of CPU, nearly all of it
    importing MLflow), so nobody sees half a schema. A file beside it remembers for which MLflow the schema was
    checked; while that is the installed one, MLflow is not imported.
    """
    checked = database.with_suffix(".mlflow-version")
    version = installed_mlflow()
    if database.exists() and checked.exists() and checked.read_text(encoding="utf-8") == version:
        return revision(database)
    if not database.exists():
        _create(database)
    _upgrade(database)
    checked.write_text(version, encoding="utf-8")
    return revision(database)


def _create(database: Path) -> None:
    settle()
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    began = time.perf_counter()
    database.parent.mkdir(parents=True, exist_ok=True)
    new = database.with_name(f".{database.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{new}")
    try:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        _initialize_tables(engine)
    finally:
        engine.dispose()
    with sqlite3.connect(new) as connection:
        # Readers (the UI) never wait for us then, nor we for them. Stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    try:
        os.link(new, database)  # unlike a rename, never over a database that another process has made meanwhile
    except FileExistsError:
        _logger.info("another process made %s first", database)
    finally:
        for leftover in database.parent.glob(f"{new.name}*"):
            leftover.unlink()
    _logger.info("made %s in %.1f s", database, time.perf_counter() - began)


def _upgrade(database: Path) -> None:
    """Bring an older schema to the installed MLflow's, so that its UI opens the database. A newer one is left alone."""
    found = revision(database)
    if found in KNOWN_REVISIONS and installed_mlflow().startswith(KNOWN_REVISIONS[found] + "."):
        return
    settle()
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError
    from mlflow.store.db.utils import _get_alembic_config, _safe_initialize_tables, _upgrade_db
    from mlflow.utils.file_utils import ExclusiveFileLock
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{database}")
    try:
        _safe_initialize_tables(engine)  # waits for another process that is making the tables right now
        with ExclusiveFileLock(str(database.with_suffix(".upgrade-lock"))):
            found = revision(database)
            script = ScriptDirectory.from_config(_get_alembic_config(f"sqlite:///{database}"))
            if found not in script.get_heads():
                script.get_revision(found or "base")
                _upgrade_db(engine)
    except CommandError as error:
        raise TrackingError(
            f"{database} was written by a newer MLflow than the installed {installed_mlflow()}: "
            f"install that one again, or move the folder {database.parent} away (`pipes sync` fills a new one)"
        ) from error
    finally:
        engine.dispose()
