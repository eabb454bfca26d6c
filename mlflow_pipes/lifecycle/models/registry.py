"""MLflow's model registry as a workspace uses it: register, champion, files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.errors import NotFoundError, TrackingError
from mlflow_pipes.lifecycle.models.folder import model_digest
from mlflow_pipes.lifecycle.models.reading import CannotReadError, read_alias, sqlite_file
from mlflow_pipes.lifecycle.models.version import DIGEST_TAG, ModelVersion, tags_of, version_of
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.tracking import embedded_schema

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
_LOCK_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class ModelRegistry:
    """The registry that a workspace's models go to. Safe for several processes.

    Importing and asking for a champion is cheap; registering imports mlflow (1 to 2 s).

    Attributes:
        uri: of the registry: an SQLite file of ours, a tracking server, or any store that MLflow knows.
        folder: for files: models where the registry is a database, downloads, locks.
    """

    uri: str
    folder: Path

    @classmethod
    def of_workspace(cls, folder: Path, environ: Mapping[str, str] = os.environ) -> ModelRegistry:
        """Return the registry of the workspace in *folder*: the configured one, else the one embedded in it."""
        own = folder.absolute() / "mlflow"
        configured = environ.get("MLFLOW_REGISTRY_URI") or environ.get("PIPES_MLFLOW_URI")
        return cls(configured or f"sqlite:///{own / 'mlflow.db'}", own)

    def champion(self, name: str, alias: str = CHAMPION) -> ModelVersion | None:
        """Return the version that *alias* points to, None when there is no such model or alias.

        Raises:
            TrackingError: the registry does not answer.
        """
        try:
            return read_alias(self.uri, name, alias)
        except CannotReadError:
            with self._client() as client:
                return self._aliased(client, name, alias)

    def register(
        self,
        name: str,
        folder: Path,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        alias: str = CHAMPION,
        run_id: str = "",
        experiment: str = "",
        description: str = "",
    ) -> ModelVersion:
        """Make a model folder the next version of *name*, and *alias* point to it; the model's files are copied.

        A model that is already registered under that name keeps its version; only the alias is moved to it.

        Args:
            name: of the registered model; made when it is not there.
            folder: an MLflow model folder.
            metrics: how good it is; kept as tags, for later comparisons.
            tags: further tags of the version.
            alias: to point to it; empty for none.
            run_id: the run that made it, for the registry's link.
            experiment: where a tracking server files the model; by default one called after *name*.
            description: of the version.

        Raises:
            ArgumentError: *folder* is no MLflow model folder.
            TrackingError: the registry did not take it.
        """
        digest = model_digest(folder)
        with self._alone(), self._client() as client:
            self._ensure_model(client, name)
            found = self._with_digest(client, name, digest)
            if found is None:
                source, model_id = self._placed(client, name, folder, digest, experiment or name)
                created = client.create_model_version(
                    name, source, run_id=run_id or None, model_id=model_id,
                    tags={**(tags or {}), **tags_of(digest, metrics or {})}, description=description or None,
                )  # fmt: skip
                found = self._first_of_twins(client, name, digest, created)
            if alias:
                client.set_registered_model_alias(name, alias, found.version)
            return found._replace(alias=alias)

    def files(self, version: ModelVersion) -> Path:
        """Return the model folder of a version, downloaded if it is not on this machine; read-only for the caller.

        Raises:
            NotFoundError: the files are gone.
            TrackingError: the registry does not give them.
        """
        local = Path(version.source.removeprefix("file://"))
        if local.is_absolute():
            if (local / "MLmodel").is_file():
                return local
            raise NotFoundError(
                f"the files of model {version.name!r} version {version.version} are gone from {local}: "
                "register the model again"
            )
        with (
            self._client() as client,
            exclusive(self.folder / ".downloads.lock", what="downloading a model", timeout_s=_LOCK_TIMEOUT_S),
        ):
            import mlflow.artifacts

            kept = self.folder / "downloads" / version.digest[:32]
            if version.digest and (kept / "MLmodel").is_file():
                return kept
            source = version.source
            if source.startswith("models:/"):
                source = client.get_logged_model(source.removeprefix("models:/")).artifact_location
            partial = kept.with_name(f".{kept.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            found = Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=str(partial), tracking_uri=client.tracking_uri
                )
            )
            shutil.rmtree(kept, ignore_errors=True)
            found.rename(kept)
            shutil.rmtree(partial, ignore_errors=True)
            return kept

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process of this machine register at a time; on other machines twins are found afterwards."""
        with exclusive(self.folder / ".registry.lock", what="registering a model", timeout_s=_LOCK_TIMEOUT_S):
            yield

    @contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        """Give MLflow's client for the registry, whatever MLflow is set to in this process."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        file = sqlite_file(self.uri)
        if file == self.folder / "mlflow.db":
            embedded_schema.ensure(file)  # MLflow's own start is not safe for two processes at once
        try:
            yield MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except MlflowException as error:
            raise TrackingError(f"model registry {without_credentials(self.uri)}: {error.message}") from error

    def _ensure_model(self, client: MlflowClient, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _with_digest(self, client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
        """Return the oldest version of this very model."""
        escaped = name.replace("'", "''")
        found = client.search_model_versions(f"name = '{escaped}' and tag.`{DIGEST_TAG}` = '{digest}'")
        return min(map(self._record, found), key=lambda version: int(version.version), default=None)

    def _first_of_twins(self, client: MlflowClient, name: str, digest: str, created: Any) -> ModelVersion:
        """Return the oldest version of the model; delete ours if another machine registered it at the same moment."""
        first = self._with_digest(client, name, digest) or self._record(created)
        if first.version == str(created.version):
            return first._replace(is_new=True)
        client.delete_model_version(name, str(created.version))
        return first

    def _placed(
        self, client: MlflowClient, name: str, folder: Path, digest: str, experiment: str
    ) -> tuple[str, str | None]:
        """Copy the model's files to where the registry can serve them; return their source and logged model's id."""
        if sqlite_file(self.uri):
            place = self.folder / "artifacts" / "models" / name / digest[:32]
            partial = place.with_name(f".{place.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(folder, partial, copy_function=shutil.copyfile)
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            return str(place), None
        # A server takes files only through a run or a logged model of its own.
        model = client.create_logged_model(_experiment_id(client, experiment), name=name.replace("/", "-"))
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        return f"models:/{model.model_id}", model.model_id

    def _aliased(self, client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            return self._record(client.get_model_version_by_alias(name, alias))._replace(alias=alias)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    def _record(self, found: Any) -> ModelVersion:
        return version_of(
            found.name, found.version, found.source, found.tags,
            registry=without_credentials(self.uri), run_id=found.run_id or "",
        )  # fmt: skip


def _experiment_id(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(name)  # another process was faster
        if found is None:
            raise
        return str(found.experiment_id)
