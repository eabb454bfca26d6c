"""A version of a registered model, and how it is written in the registry's tags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from mlflow_pipes.errors import ArgumentError, suggest

Mode: TypeAlias = Literal["min", "max"]
DIGEST_TAG = "pipes.model_digest"
METRIC_TAG = "pipes.metric."


class ModelVersion(NamedTuple):
    """One version of a model in the registry.

    Attributes:
        name, version: what the registry calls it; versions count from ``"1"``.
        digest: identity of the model's files; empty for a version that was not registered by us.
        source: where its files are, as the registry knows it.
        registry: the registry's URI, without password.
        alias: that points to it, such as ``champion``; empty when none is known to.
        metrics: it was registered with.
        run_id: of the step that registered it.
        is_new: whether the call that gave this record made the version.
    """

    name: str
    version: str
    digest: str
    source: str
    registry: str
    alias: str = ""
    metrics: Mapping[str, float] = {}
    run_id: str = ""
    is_new: bool = False

    @property
    def uri(self) -> str:
        """What MLflow loads it by: ``models:/NAME/VERSION``."""
        return f"models:/{self.name}/{self.version}"


def tags_of(digest: str, metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the tags that say which model a version is and how good."""
    return {DIGEST_TAG: digest, **{f"{METRIC_TAG}{name}": repr(float(value)) for name, value in metrics.items()}}


def version_of(
    name: str, version: Any, source: str, tags: Mapping[str, str], *, registry: str, alias: str = "", run_id: str = ""
) -> ModelVersion:
    """Return the record of a version as the registry tells of it."""
    metrics = {}
    for tag, value in tags.items():
        if tag.startswith(METRIC_TAG):
            try:
                metrics[tag.removeprefix(METRIC_TAG)] = float(value)
            except ValueError:
                continue  # someone else's words under our name
    digest = tags.get(DIGEST_TAG, "")
    return ModelVersion(name, str(version), digest, source, registry, alias, metrics, run_id or "")


def is_better(candidate: Mapping[str, float], champion: Mapping[str, float], metric: str, mode: Mode) -> bool:
    """Tell whether *candidate* beats *champion* by *metric*. A tie is no win; a champion without the metric is beaten.

    Raises:
        ArgumentError: the candidate has no such metric.
    """
    mine = value_of(candidate, metric, "the candidate")
    theirs = champion.get(metric, math.nan)
    if math.isnan(mine):
        return False
    return math.isnan(theirs) or (mine < theirs if mode == "min" else mine > theirs)


def value_of(metrics: Mapping[str, float], metric: str, whose: str) -> float:
    """Return one metric.

    Raises:
        ArgumentError: there is none of that name.
    """
    if metric not in metrics:
        known = ", ".join(metrics) or "none"
        raise ArgumentError(f"{whose} has no metric {metric!r}{suggest(metric, metrics)}; it has {known}")
    return metrics[metric]
