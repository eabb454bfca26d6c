"""A user's own MLflow, through its client: a server over REST, a database, or a folder.

MLflow chooses the run ids, so each run carries ours as the tag ``pipes.run_id`` and is looked for before it is made:
a crash between making a run and remembering it makes no second one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.errors import TrackingError
from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.tracking import client_models
from mlflow_pipes.tracking.batches import batches
from mlflow_pipes.tracking.embedded import deleted_experiment
from mlflow_pipes.tracking.files import LaidOut
from mlflow_pipes.tracking.quiet import settle
from mlflow_pipes.tracking.rendering import newness, render
from mlflow_pipes.tracking.sheet import Point, Sheet, with_origin

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

_logger = logging.getLogger(__name__)

# What a server says when a request can never succeed: waiting would not help, and others must not wait behind it.
_REFUSALS = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS",
     "NOT_FOUND", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"}
)  # fmt: skip
_UPLOADED = "pipes.artifacts"  # tag: digest of the files that were uploaded completely


@dataclass(frozen=True, slots=True)
class Known:
    """A run that the server has: its id there, its experiment's, and the root of the tree it stands in."""

    mlflow_run_id: str
    experiment_id: str
    root_id: str


class ClientDestination:
    """An MLflow reached by its client."""

    batch = 100

    def __init__(self, uri: str, *, name: str | None = None, artifact_root: str | None = None) -> None:
        settle()
        from mlflow.tracking import MlflowClient

        self.name = name or without_credentials(uri)
        self._client = MlflowClient(tracking_uri=uri)
        self._artifact_root = artifact_root
        self._experiments: dict[str, str] = {}
        self._known: dict[str, Known] = {}  # our run id -> the server's
        self._searched: set[tuple[str, str]] = set()  # (experiment id, root id) whose runs are all in _known

    def deliver(self, publications: Sequence[Publication], datastore: Datastore) -> list[Receipt]:
        """Show the runs one after the other; those that were shown before a failure are receipted."""
        receipts: list[Receipt] = []
        self._experiments.clear()  # deleted or renamed meanwhile?
        try:
            with LaidOut(datastore) as files:
                for publication in publications:
                    receipts.append(self._deliver(publication, files))  # noqa: PERF401 - kept when a later one fails
        except TrackingError:
            self._forget()  # whether the last request arrived is not known: look again
            if not receipts:
                raise
        return receipts

    def close(self) -> None:
        """Nothing is held."""

    def _forget(self) -> None:
        self._known.clear()
        self._searched.clear()

    def _deliver(self, publication: Publication, files: LaidOut) -> Receipt:
        own_id = ""
        for sheet in render(publication):
            try:
                with self._translated():
                    shown_as = self._show(sheet, files)
            except _RefusedError as error:
                _logger.warning("MLflow refused run %s (%s): %s", sheet.run_id, sheet.name, error)
                known = self._known.get(sheet.run_id)
                shown_as = sheet.known_as or (known.mlflow_run_id if known else "")
            own_id = own_id or shown_as
        return Receipt(publication.run_id, publication.revision, own_id)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code in _REFUSALS:
                raise _RefusedError(_first_line(error)) from error
            raise TrackingError(f"MLflow at {self.name} does not answer: {_first_line(error)}") from error
        except OSError as error:
            raise TrackingError(f"MLflow at {self.name} does not answer: {_first_line(error)}") from error

    # -- one run

    def _show(self, sheet: Sheet, files: LaidOut) -> str:
        experiment_id = self._experiment(sheet.experiment)
        sheet = self._with_origin(sheet, experiment_id)
        run_id = sheet.known_as or self._find(sheet, experiment_id)
        there = None if run_id is None else self._client.get_run(run_id).data
        if run_id is None:
            run_id = self._create(sheet, experiment_id)
        tags = {"mlflow.runName": sheet.name, **sheet.tags}
        self._log(run_id, sheet, {} if there is None else tags, there)
        uploaded = client_models.fingerprint(sheet)
        if uploaded and (there is None or there.tags.get(_UPLOADED) != uploaded):
            client_models.upload(self._client, sheet, run_id, experiment_id, files)
            self._client.set_tag(run_id, _UPLOADED, uploaded)
        if sheet.datasets:
            client_models.log_datasets(self._client, sheet, run_id)
        if sheet.ended_ms is not None:
            self._client.set_terminated(run_id, sheet.status, sheet.ended_ms)
        elif sheet.status != "RUNNING" or there is not None:
            self._client.update_run(run_id, sheet.status)
        return run_id

    def _create(self, sheet: Sheet, experiment_id: str) -> str:
        tags = dict(sheet.tags)
        if sheet.parent_id:
            parent = self._known.get(sheet.parent_id) or self._search(experiment_id, sheet.root_id, sheet.parent_id)
            if parent is not None:
                tags["mlflow.parentRunId"] = parent.mlflow_run_id
        run = self._client.create_run(experiment_id, sheet.started_ms, tags, sheet.name)
        run_id = str(run.info.run_id)
        self._known[sheet.run_id] = Known(run_id, experiment_id, sheet.root_id)
        return run_id

    def _log(self, run_id: str, sheet: Sheet, tags: Mapping[str, str], there: Any) -> None:
        """Send what the run does not have yet."""
        from mlflow.entities import Metric, Param, RunTag

        params = dict(sheet.params)
        points: Sequence[Point] = sheet.points
        if there is not None:
            params = {key: value for key, value in params.items() if key not in there.params}  # they never change
            tags = {key: value for key, value in tags.items() if there.tags.get(key) != value}
            points = self._missing(run_id, points, there)
        for some_points, some_params, some_tags in batches(points, list(params.items()), list(tags.items())):
            self._client.log_batch(
                run_id,
                [Metric(key, value, timestamp_ms, step) for key, value, step, timestamp_ms in some_points],
                [Param(key, value) for key, value in some_params],
                [RunTag(key, value) for key, value in some_tags],
            )

    def _missing(self, run_id: str, points: Sequence[Point], there: Any) -> list[Point]:
        """Return the points that the server does not have.

        A key's points are sent in order, so a key whose newest point is there is there altogether.
        """
        by_key: dict[str, list[Point]] = {}
        for point in points:
            by_key.setdefault(point.key, []).append(point)
        newest = {metric.key: metric for metric in getattr(there, "_metric_objs", ())}
        missing: list[Point] = []
        for key, series in by_key.items():
            latest = newest.get(key)
            if latest is None and key not in there.metrics:
                missing += series
            elif latest is None or _stamp(latest) != newness(series[-1]):
                known = {_stamp(metric) for metric in self._client.get_metric_history(run_id, key)}
                missing += [point for point in series if newness(point) not in known]
        return missing

    # -- finding

    def _experiment(self, name: str) -> str:
        known = self._experiments.get(name)
        if known is not None:
            return known
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                location = f"{self._artifact_root}/{name}" if self._artifact_root else None
                experiment_id = self._client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                found = self._client.get_experiment_by_name(name)  # another workspace was faster
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                    raise
        if found is not None:
            if found.lifecycle_stage != "active":
                raise TrackingError(deleted_experiment(name, self.name))
            experiment_id = found.experiment_id
        self._experiments[name] = str(experiment_id)
        return self._experiments[name]

    def _find(self, sheet: Sheet, experiment_id: str) -> str | None:
        found = self._known.get(sheet.run_id) or self._search(experiment_id, sheet.root_id, sheet.run_id)
        return None if found is None else found.mlflow_run_id

    def _search(self, experiment_id: str, root_id: str, run_id: str) -> Known | None:
        """Look a run up among all runs of its tree: one question a tree, not one a run."""
        if (experiment_id, root_id) not in self._searched:
            self._remember(experiment_id, f"tags.`pipes.root_id` = '{root_id}'")
            self._searched.add((experiment_id, root_id))
        return self._known.get(run_id)

    def _remember(self, experiment_id: str, filter_string: str) -> None:
        from mlflow.entities import ViewType

        token: str | None = None
        while True:
            page = self._client.search_runs([experiment_id], filter_string, ViewType.ALL, 1000, page_token=token)
            for run in page:
                tags = run.data.tags
                known = Known(run.info.run_id, run.info.experiment_id, tags.get("pipes.root_id", ""))
                self._known[tags.get("pipes.run_id", "")] = known
            token = page.token
            if not token:
                return

    def _with_origin(self, sheet: Sheet, experiment_id: str) -> Sheet:
        origin = sheet.reused_from
        if not origin:
            return sheet
        if origin not in self._known:
            self._remember(experiment_id, f"tags.`pipes.run_id` = '{origin}'")
            if origin in self._known:
                self._search(experiment_id, self._known[origin].root_id, origin)  # its siblings will be asked for next
        found = self._known.get(origin)
        return with_origin(sheet, found.mlflow_run_id, found.experiment_id) if found else sheet


class _RefusedError(Exception):
    """The server will never take this."""


def _first_line(error: Exception) -> str:
    return without_credentials((str(error) or type(error).__name__).splitlines()[0])


def _stamp(metric: Any) -> tuple[int, int, float]:
    return newness(Point(metric.key, metric.value, metric.step, metric.timestamp))
