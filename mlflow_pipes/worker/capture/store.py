"""The tracking store that MLflow talks to inside a step: facts go to the attempt's journal, no server is asked.

Registered with MLflow under the scheme ``pipes-capture`` (entry point group ``mlflow.tracking_store``), so that a
subprocess that a step starts finds it too. Decision record: docs/adr/0003-capture-mlflow-inside-steps.md.
"""

# ruff: noqa: D102 - the methods without docstring are AbstractStore's and do what it says

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    Experiment,
    LifecycleStage,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.tracing.constant import TraceTagKey
from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import _validate_metric, _validate_param_keys_unique, _validate_tag_name

from mlflow_pipes.worker.capture import entities
from mlflow_pipes.worker.capture.environment import DESTINATION
from mlflow_pipes.worker.capture.journal import Fact, Journal, Logged, LoggedRun, apply
from mlflow_pipes.worker.capture.location import EXPERIMENT_ID, Location
from mlflow_pipes.worker.capture.logged_models import LoggedModels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow.entities import DatasetInput, LoggedModelInput, LoggedModelOutput, Run, RunInfo

_logger = logging.getLogger(__name__)

_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class CaptureStore(LoggedModels, AbstractStore):  # type: ignore[misc] # MLflow is not typed
    """MLflow's view of one attempt. Safe for threads and for several processes."""

    def __init__(self, store_uri: str | None = None, artifact_uri: str | None = None) -> None:  # noqa: ARG002 - MLflow's
        super().__init__()
        self.location = Location.parse(store_uri or "")
        self._journal = Journal(self.location.journal)
        self._logged = Logged()
        self._lock = threading.RLock()
        self._experiment_tags: dict[str, str] = {}
        self._own_run: Run | None = None
        with self._lock:
            if self.location.run_id not in self.known().runs:
                self._journal.append(["run", {"run_id": self.location.run_id, "name": self.location.run_name,
                                              "started_ms": _now_ms()}])  # fmt: skip

    # -- the journal

    def known(self) -> Logged:
        """Return all facts so far, those of other processes too."""
        with self._lock:
            for fact in self._journal.unread():
                apply(self._logged, fact)
            return self._logged

    def state(self, *facts: Fact) -> None:
        """Write facts down."""
        with self._lock:
            self._journal.append(*facts)

    def destination(self) -> Any:
        """Return the store that the workspace publishes to, for reading what earlier runs left; None if unknown."""
        uri = os.environ.get(DESTINATION)
        return _get_store(uri) if uri else None

    def _run(self, run_id: str) -> LoggedRun:
        run = self.known().runs.get(run_id)
        if run is None:
            raise MlflowException(
                f"Run '{run_id}' was not started by this step. Inside a pipeline step the active run is "
                f"'{self.location.run_id}'; to reach another, make an MlflowClient(tracking_uri=...) of its server.",
                RESOURCE_DOES_NOT_EXIST,
            )
        return run

    def close(self) -> None:
        """Let the journal go; facts stated later are dropped."""
        with self._lock:
            self._journal.close()

    # -- experiments: the pipeline decides; whatever name a step sets, it stays in its own

    def _experiment(self, name: str = "step") -> Experiment:
        return entities.experiment(name, self.location, self._experiment_tags)

    def search_experiments(self, *_: Any, **__: Any) -> PagedList[Experiment]:
        return PagedList([self._experiment()], None)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:  # noqa: ARG002
        return EXPERIMENT_ID

    def get_experiment(self, experiment_id: str) -> Experiment:  # noqa: ARG002 - there is one
        return self._experiment()

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        return self._experiment(experiment_name)

    def delete_experiment(self, experiment_id: str) -> None:  # noqa: ARG002
        _refuse("delete an experiment")

    def restore_experiment(self, experiment_id: str) -> None:  # noqa: ARG002
        _refuse("restore an experiment")

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:  # noqa: ARG002
        _refuse("rename an experiment")

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:  # noqa: ARG002
        self._experiment_tags[tag.key] = tag.value

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:  # noqa: ARG002
        self._experiment_tags.pop(key, None)

    # -- runs

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: Sequence[RunTag] | None, run_name: str | None
    ) -> Run:  # fmt: skip
        """Begin a run: for ``start_run`` the step's own, unless it has a parent, or a second name.

        So a script's ``with start_run(run_name=...)`` is the step's run, and a loop over such does not overwrite it.
        """
        del experiment_id, user_id
        wanted = {tag.key: str(tag.value) for tag in tags or ()}
        name = wanted.pop(_NAME, None) or run_name or ""
        own = self._run(self.location.run_id)
        parent_id = wanted.pop(_PARENT, None)
        unnamed = own.name == self.location.run_name
        fluent = "mlflow.source.type" in wanted  # start_run() says where it is called from; a client's create_run not
        if parent_id is None and fluent and (not name or unnamed or name == own.name):
            self.state(["run", {"run_id": own.run_id, "name": name or own.name, "status": "RUNNING", "ended_ms": None}])
            run_id = own.run_id
        else:
            run_id = uuid.uuid4().hex
            self.state(["run", {"run_id": run_id, "name": name or f"{own.name}-{run_id[:8]}",
                                "parent_id": parent_id or own.run_id, "started_ms": start_time}])  # fmt: skip
        self.state(*[["tag", run_id, key, value] for key, value in wanted.items()])
        return self.get_run(run_id)

    def get_run(self, run_id: str) -> Run:
        destination = None if run_id in self.known().runs else self.destination()
        if destination is not None:
            return destination.get_run(run_id)  # a run of before: the user asks for just that
        return entities.run(self._run(run_id), self.location)

    def own_run(self) -> Run:
        """Return the step's run as it was when first asked for: its identity, for each implicit ``log_*`` call."""
        if self._own_run is None:
            self._own_run = self.get_run(self.location.run_id)
        return self._own_run

    def update_run_info(self, run_id: str, run_status: int, end_time: int | None, run_name: str | None) -> RunInfo:
        fields: dict[str, Any] = {"run_id": self._run(run_id).run_id, "ended_ms": end_time}
        if run_status is not None:
            fields["status"] = RunStatus.to_string(run_status)
        if run_name:
            fields["name"] = run_name
        self.state(["run", fields])
        return self.get_run(run_id).info

    def delete_run(self, run_id: str) -> None:
        self.state(["run", {"run_id": self._run(run_id).run_id, "deleted": True}])

    def restore_run(self, run_id: str) -> None:
        self.state(["run", {"run_id": self._run(run_id).run_id, "deleted": False}])

    def _search_runs(
        self, experiment_ids: Any, filter_string: str, run_view_type: int, max_results: int, order_by: Any,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:  # fmt: skip
        del experiment_ids
        wanted = LifecycleStage.view_type_to_stages(run_view_type or ViewType.ACTIVE_ONLY)
        runs = [entities.run(logged, self.location) for logged in self.known().runs.values()]
        found = SearchUtils.filter([run for run in runs if run.info.lifecycle_stage in wanted], filter_string)
        page, token = SearchUtils.paginate(SearchUtils.sort(found, order_by), page_token, max_results)
        return page, token

    # -- what runs say

    def log_batch(
        self, run_id: str, metrics: Iterable[Metric], params: Iterable[Param], tags: Iterable[RunTag]
    ) -> None:  # fmt: skip
        run = self._run(run_id)
        params = list(params)
        _validate_param_keys_unique(params)
        facts: list[Fact] = []
        for metric in metrics:
            _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
            point = [metric.key, float(metric.value), metric.step, metric.timestamp]
            dataset = [getattr(metric, "dataset_name", None), getattr(metric, "dataset_digest", None)]
            facts.append(["metric", run_id, point, getattr(metric, "model_id", None), dataset])
        for param in params:
            value = str(param.value)
            if run.params.get(param.key, value) != value:
                raise MlflowException(
                    f"Changing param values is not allowed. Param with key='{param.key}' was already logged with "
                    f"value='{run.params[param.key]}' for run ID='{run_id}'. Attempted logging new value '{value}'.",
                    INVALID_PARAMETER_VALUE,
                )
            facts.append(["param", run_id, param.key, value])
        for tag in tags:
            _validate_tag_name(tag.key)
            facts.append(["tag", run_id, tag.key, str(tag.value)])
        self.state(*facts)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        self.log_batch(run_id, [metric], [], [])

    def log_param(self, run_id: str, param: Param) -> Any:
        self.log_batch(run_id, [], [param], [])
        return param.value

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        self.log_batch(run_id, [], [], [tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        if key not in self._run(run_id).tags:
            raise MlflowException(f"No tag with name: {key} in run with id {run_id}", RESOURCE_DOES_NOT_EXIST)
        self.state(["untag", run_id, key])

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList[Metric]:  # fmt: skip
        del page_token  # all in one page
        points = [point for point in self._run(run_id).points if point[0] == metric_key]
        return PagedList([Metric(key, value, stamp, step) for key, value, step, stamp in points][:max_results], None)

    def log_inputs(
        self, run_id: str, datasets: list[DatasetInput] | None = None, models: list[LoggedModelInput] | None = None
    ) -> None:  # fmt: skip
        self._run(run_id)
        facts: list[Fact] = [
            ["dataset", run_id, entities.dataset_record(logged.dataset), {tag.key: tag.value for tag in logged.tags}]
            for logged in datasets or ()
        ]
        self.state(*facts, *[["model-input", run_id, model.model_id] for model in models or ()])

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        self._run(run_id)
        self.state(*[["model-output", run_id, model.model_id, model.step] for model in models or ()])

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Keep the tag in which MLflow 2 lists a run's models."""
        key = "mlflow.log-model.history"
        models = json.loads(self._run(run_id).tags.get(key, "[]"))
        self.state(["tag", run_id, key, json.dumps([*models, mlflow_model.get_tags_dict()])])

    # -- traces: not kept, and never a reason to fail

    def start_trace(self, trace_info: Any) -> Any:
        self.state(["trace"])
        trace_info.tags[TraceTagKey.SPANS_LOCATION] = "TRACKING_STORE"  # so that nothing is uploaded as an artifact
        return trace_info

    def log_spans(self, location: str, spans: list[Any], tracking_uri: str | None = None) -> list[Any]:
        del location, tracking_uri
        return spans

    def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        del trace_id, key, value

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        del trace_ids, run_id


def _refuse(what: str) -> None:
    raise MlflowException(
        f"A pipeline step cannot {what}: use an MlflowClient(tracking_uri=...) of your server.", INVALID_PARAMETER_VALUE
    )
