"""The schema of the MLflow database that we own: made by MLflow's migrations, written to only when known exactly."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing
from importlib.resources import files
from typing import TYPE_CHECKING

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.tracking import schemas
from mlflow_pipes.tracking.quiet import settle

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger(__name__)

_DEFAULT_EXPERIMENT = """
    INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)
    VALUES (0, 'Default', ?, 'active', ?, ?)"""

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
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    return str(found[0]) if found else None


def ensure(database: Path) -> str | None:
    """Make the database if it is not there, bring it to the installed MLflow's schema, return its revision.

    A new one is made under another name and moved into place when it is whole, so nobody sees half a schema; of a
    known MLflow from the script in ``schemas``, in milliseconds. A file beside it remembers for which MLflow the
    schema was checked; while that is the installed one, MLflow is not imported.
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
    began = time.perf_counter()
    database.parent.mkdir(parents=True, exist_ok=True)
    new = database.with_name(f".{database.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    known = [revision for revision, version in KNOWN_REVISIONS.items() if installed_mlflow().startswith(f"{version}.")]
    if not known:
        initialise_by_mlflow(new)
    with closing(sqlite3.connect(new)) as connection:
        if known:
            script = files(schemas).joinpath(f"{known[0]}.sql").read_text(encoding="utf-8")
            connection.executescript(f"BEGIN;\n{script}\nCOMMIT;")
        # MLflow makes its default experiment only in a database that has none at all.
        now_ms, default = time.time_ns() // 1_000_000, (database.parent / "artifacts" / "0").as_uri()
        with connection:
            connection.execute(_DEFAULT_EXPERIMENT, (default, now_ms, now_ms))
        # Readers (the UI) never wait for us then, nor we for them. Stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")
    try:
        os.link(new, database)  # unlike a rename, never over a database that another process has made meanwhile
    except FileExistsError:
        _logger.info("another process made %s first", database)
    finally:
        for leftover in database.parent.glob(f"{new.name}*"):
            leftover.unlink()
    _logger.info("made %s in %.1f s", database, time.perf_counter() - began)


def initialise_by_mlflow(database: Path) -> None:
    """Make the tables by MLflow's migrations, as its own stores do: about 4 s, most of it importing MLflow."""
    settle()
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{database}")
    try:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        _initialize_tables(engine)
    finally:
        engine.dispose()


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
