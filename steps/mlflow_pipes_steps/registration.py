"""From a trained model to a version in the model registry, when it beats the one that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_pipes import current_run, step
from mlflow_pipes.lifecycle import CHAMPION, Mode, ModelRegistry, ModelVersion, is_better, model_digest
from mlflow_pipes_steps.model_folder import ModelFolder, checked_folder
from mlflow_pipes_steps.workspace import workspace_folder


class Comparison(NamedTuple):
    """How a candidate stands against the champion.

    Says the same before and after the candidate was registered, so that looking again does not register again.

    Attributes:
        wins: the candidate is better than the champion, or is the champion, or there is none.
        champion: the champion that stays; None when the candidate wins.
    """

    wins: bool
    champion: ModelVersion | None


@step(reuse="never")
def compare_with_champion(
    model: ModelFolder, metrics: Mapping[str, float], name: str, metric: str, mode: Mode = "min", alias: str = CHAMPION
) -> Comparison:
    """Return whether a candidate beats the registered champion. Looks into the registry every time (milliseconds).

    Args:
        model: the candidate.
        metrics: the candidate's metrics; the champion's are those it was registered with.
        name: of the registered model.
        metric: which to compare by.
        mode: whether less (``min``) or more (``max``) of it is better.
        alias: that marks the champion.

    Raises:
        ArgumentError: the candidate has no such metric.
        TrackingError: the registry does not answer.
    """
    champion = ModelRegistry.of_workspace(workspace_folder()).champion(name, alias)
    wins = (
        champion is None
        or is_better(metrics, champion.metrics, metric, mode)
        or champion.digest == model_digest(checked_folder(model))
    )  # fmt: skip
    if champion is not None and metric in champion.metrics:
        current_run().log(f"champion_{metric}", champion.metrics[metric])
    return Comparison(wins, None if wins else champion)


@step
def register_model(
    model: ModelFolder,
    name: str,
    metrics: Mapping[str, float],
    comparison: Comparison | None = None,
    data: Any = None,
    tags: Mapping[str, str] | None = None,
    alias: str = CHAMPION,
    description: str = "",
) -> ModelVersion:
    """Return the model's version in the registry, made if this very model was not registered before.

    Reused by content like any step: the same model, metrics and comparison give the version they gave before, and
    nothing is asked. ``register_model.options(reuse="never")`` looks every time.

    Args:
        model: what to register, in the MLflow model folder that it was stored as.
        name: of the registered model; made when it is not there.
        metrics: kept with the version, for later comparisons.
        comparison: from :func:`compare_with_champion`; when the candidate does not win, nothing is registered and the
            champion is returned.
        data: what the model was trained on; only its digest is kept, so hand over files rather than large tables.
        tags: further tags of the version.
        alias: to point to the version; empty for none.
        description: of the version.

    Raises:
        ArgumentError: *model* is not stored as an MLflow model folder.
        TrackingError: the registry did not take it.
    """
    if comparison is not None and not comparison.wins and comparison.champion is not None:
        return comparison.champion
    this = current_run()
    links = {"pipes.run_id": this.run_id, "pipes.step_run_id": this.id, "pipes.pipeline": this.pipeline}
    if data is not None and "data" in this.inputs:
        links["pipes.data_digests"] = json.dumps({"data": this.inputs["data"]})
    return ModelRegistry.of_workspace(workspace_folder()).register(
        name,
        checked_folder(model),
        metrics=metrics,
        tags={**(tags or {}), **{key: value for key, value in links.items() if value}},
        alias=alias,
        run_id=this.id,
        experiment=this.pipeline,
        description=description,
    )
