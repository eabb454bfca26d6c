"""The MLflow database that we own: SQLite below the workspace, written in bulk.

About 0.3 ms a run instead of 26 through MLflow's client, and MLflow is not even imported once the database is there.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.model.publication import Receipt
from mlflow_pipes.tracking import embedded_schema
from mlflow_pipes.tracking.embedded_rows import Place, Rows
from mlflow_pipes.tracking.files import LaidOut, copy_into, walk
from mlflow_pipes.tracking.rendering import render
from mlflow_pipes.tracking.sheet import Sheet, with_origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_pipes.model.publication import Publication
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.tracking.publisher import Destination

_logger = logging.getLogger(__name__)

NAME = "embedded"
_ANALYZE_EVERY = 1000  # runs written: without statistics SQLite sorts 10,000 runs by a metric in 11 s


class EmbeddedDestination:
    """A folder with ``mlflow.db`` and ``artifacts/``; our run ids are MLflow's."""

    name = NAME
    batch = 500

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._written = 0
        self._connection = sqlite3.connect(self.database, timeout=20, isolation_level=None)
        self._connection.execute("PRAGMA synchronous=NORMAL")
        # Runs that were made through the client, while the schema was not known, have ids that MLflow chose.
        foreign = "SELECT value, run_uuid FROM tags WHERE key = 'pipes.run_id' AND value <> run_uuid"
        self._foreign_ids: dict[str, str] = dict(self._connection.execute(foreign).fetchall())

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "mlflow.db"

    def deliver(self, publications: Sequence[Publication], datastore: Datastore) -> list[Receipt]:
        """Write the runs in one transaction, after their files."""
        sheets = [self._as_known(sheet) for publication in publications for sheet in render(publication)]
        try:
            places = {sheet.experiment: self._place(sheet.experiment) for sheet in sheets}
            sheets = self._with_origins(sheets)
            self._copy_files(sheets, places, datastore)
            rows = Rows()
            now_ms = time.time_ns() // 1_000_000
            for sheet in sheets:
                rows.add(sheet, places[sheet.experiment], now_ms)
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                rows.write(self._connection)
            self._analyze(len(sheets))
        except (sqlite3.Error, OSError) as error:
            raise TrackingError(f"cannot write {self.database}: {error}") from error
        return [Receipt(item.run_id, item.revision, self._id(item.run_id)) for item in publications]

    def close(self) -> None:
        """Close the database, leaving fresh statistics behind."""
        if self._written:
            try:
                self._connection.execute("ANALYZE")
            except sqlite3.Error as error:
                _logger.warning("no statistics for %s: %s", self.database, error)
        self._connection.close()

    def _id(self, run_id: str) -> str:
        return self._foreign_ids.get(run_id, run_id)

    def _as_known(self, sheet: Sheet) -> Sheet:
        if not self._foreign_ids:
            return sheet
        return replace(
            sheet,
            run_id=self._id(sheet.run_id),
            parent_id=sheet.parent_id and self._id(sheet.parent_id),
            reused_from=sheet.reused_from and self._id(sheet.reused_from),
        )

    def _analyze(self, runs: int) -> None:
        self._written += runs
        if self._written >= _ANALYZE_EVERY:
            self._connection.execute("ANALYZE")
            self._written = 0

    def _place(self, experiment: str) -> Place:
        """Return where an experiment's runs go; it is made when missing."""
        query = "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE name = ?"
        found = self._connection.execute(query, (experiment,)).fetchone()
        if found is None:
            return self._new_experiment(experiment)
        if found[2] != "active":
            raise TrackingError(deleted_experiment(experiment, str(self.database)))
        return Place(found[0], found[1])

    def _new_experiment(self, experiment: str) -> Place:
        now_ms = time.time_ns() // 1_000_000
        insert = """INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)
                    VALUES (?, '', 'active', ?, ?) RETURNING experiment_id"""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            (experiment_id,) = self._connection.execute(insert, (experiment, now_ms, now_ms)).fetchone()
            location = (self.folder / "artifacts" / str(experiment_id)).as_uri()
            update = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
            self._connection.execute(update, (location, experiment_id))
        return Place(experiment_id, location)

    def _with_origins(self, sheets: list[Sheet]) -> list[Sheet]:
        origins = sorted({sheet.reused_from for sheet in sheets if sheet.reused_from})
        experiments: dict[str, int] = {}
        for start in range(0, len(origins), 500):
            some = origins[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT run_uuid, experiment_id FROM runs WHERE run_uuid IN ({marks})"  # noqa: S608 - only marks
            experiments.update(self._connection.execute(query, some).fetchall())
        return [
            with_origin(sheet, sheet.reused_from, str(experiments[sheet.reused_from]))
            if sheet.reused_from in experiments
            else sheet
            for sheet in sheets
        ]

    def _copy_files(self, sheets: Iterable[Sheet], places: dict[str, Place], datastore: Datastore) -> None:
        with LaidOut(datastore) as laid_out:
            for sheet in sheets:
                place = places[sheet.experiment]
                for path, file in laid_out.of_run(sheet.files) if sheet.files else ():
                    copy_into(_local(place.run_artifacts(sheet.run_id)) / path, file)
                for model in sheet.models:
                    folder = laid_out.of_model(sheet.files, model["model_id"])
                    for path, file in walk(folder) if folder else ():
                        copy_into(_local(place.model_artifacts(model["model_id"])) / path, file)


def _local(uri: str) -> Path:
    from urllib.parse import unquote, urlsplit

    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)


def deleted_experiment(experiment: str, where: str) -> str:
    """Return what to tell the user whose experiment lies in MLflow's trash."""
    return (
        f"MLflow's experiment {experiment!r} at {where} is deleted: restore it (`mlflow experiments restore`), or give "
        f"the pipeline another one with experiment=..."
    )


def open_embedded(folder: Path) -> Destination:
    """Return the destination for the store below *folder*, making it when it is not there.

    Written in bulk when the schema is known exactly, else through MLflow's client.
    """
    database = folder.resolve() / "mlflow.db"
    found = embedded_schema.ensure(database)
    if found in embedded_schema.KNOWN_REVISIONS:
        return EmbeddedDestination(folder)
    _logger.warning(
        "MLflow %s has a database schema (%s) that this mlflow_pipes does not know: publishing through its client, "
        "which is slower", embedded_schema.installed_mlflow(), found,
    )  # fmt: skip
    from mlflow_pipes.tracking.client import ClientDestination

    return ClientDestination(f"sqlite:///{database}", name=NAME, artifact_root=(database.parent / "artifacts").as_uri())
