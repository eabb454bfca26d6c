"""MLflow 3's logged models, as facts in the journal of an attempt."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.search_utils import SearchLoggedModelsUtils

from mlflow_pipes.worker.capture import entities
from mlflow_pipes.worker.capture.journal import Fact, Logged, LoggedModelState

if TYPE_CHECKING:
    from mlflow.entities import LoggedModelParameter, LoggedModelTag

    from mlflow_pipes.worker.capture.location import Location


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class LoggedModels:
    """The part of the capture store that is about logged models."""

    location: Location

    def known(self) -> Logged:
        """Return all facts so far."""
        raise NotImplementedError

    def destination(self) -> Any:
        """Return the store that the workspace publishes to, for reading."""
        raise NotImplementedError

    def state(self, *facts: Fact) -> None:
        """Write facts down."""
        raise NotImplementedError

    def _model(self, model_id: str) -> LoggedModelState:
        model = self.known().models.get(model_id)
        if model is None:
            raise MlflowException(
                f"Logged model '{model_id}' was not logged by this step. Pass models between steps as outputs, or make "
                "an MlflowClient(tracking_uri=...) of the server that has it.",
                RESOURCE_DOES_NOT_EXIST,
            )
        return model

    def create_logged_model(
        self,
        experiment_id: str = "0",
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[LoggedModelTag] | None = None,
        params: list[LoggedModelParameter] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        """Begin a logged model; its files go to the attempt's folder."""
        del experiment_id
        model_id = f"m-{uuid.uuid4().hex}"
        now_ms = _now_ms()
        fields = {"model_id": model_id, "name": name or f"model-{model_id[2:10]}", "run_id": source_run_id,
                  "model_type": model_type, "created_ms": now_ms, "updated_ms": now_ms}  # fmt: skip
        self.state(["model", fields])
        self.log_logged_model_params(model_id, params or [])
        self.set_logged_model_tags(model_id, tags or [])
        return self.get_logged_model(model_id)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        """Return a model that this step logged, or one of before that the destination has."""
        del allow_deleted
        destination = None if model_id in self.known().models else self.destination()
        if destination is not None:
            found: LoggedModel = destination.get_logged_model(model_id)
            return found
        return entities.logged_model(self._model(model_id), self.location)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """Set whether the model is ready or failed."""
        self._change(model_id, status=LoggedModelStatus(status).value)
        return self.get_logged_model(model_id)

    def set_logged_model_tags(self, model_id: str, tags: list[LoggedModelTag]) -> None:
        """Set tags."""
        self.state(*[["model-tag", model_id, tag.key, str(tag.value)] for tag in tags])

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Remove a tag."""
        self.state(["model-untag", model_id, key])

    def log_logged_model_params(self, model_id: str, params: list[LoggedModelParameter]) -> None:
        """Set parameters."""
        self.state(*[["model-param", model_id, param.key, str(param.value)] for param in params])

    def delete_logged_model(self, model_id: str) -> None:
        """Mark as deleted; it is not harvested."""
        self._change(model_id, deleted=True)

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[Any] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> PagedList[LoggedModel]:
        """Search the models that this step logged."""
        del experiment_ids
        models = [entities.logged_model(m, self.location) for m in self.known().models.values() if not m.deleted]
        found = SearchLoggedModelsUtils.filter_logged_models(models, filter_string, datasets)
        ordered = SearchLoggedModelsUtils.sort(found, order_by)
        page, token = SearchLoggedModelsUtils.paginate(ordered, page_token, max_results or 100)
        return PagedList(page, token)

    def set_model_versions_tags(self, name: str, version: str, model_id: str) -> None:
        """Do as every MLflow store does: note on the model under which version it was registered."""
        import json

        key = "mlflow.modelVersions"
        versions = json.loads(self._model(model_id).tags.get(key, "[]"))
        self.state(["model-tag", model_id, key, json.dumps([*versions, {"name": name, "version": version}])])

    def _change(self, model_id: str, **fields: Any) -> None:
        self.state(["model-change", self._model(model_id).model_id, {**fields, "updated_ms": _now_ms()}])
