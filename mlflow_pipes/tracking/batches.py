"""Cutting what a run has to say into requests that MLflow takes (``mlflow.utils.validation``, 3.17)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

M = TypeVar("M")
P = TypeVar("P")
T = TypeVar("T")

METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = TAGS_AT_ONCE = 100
ENTITIES_AT_ONCE = 1000


def batches(
    metrics: Sequence[M], params: Sequence[P], tags: Sequence[T]
) -> Iterator[tuple[Sequence[M], Sequence[P], Sequence[T]]]:
    """Yield batches within all limits, in as few requests as they allow; each kind stays in its order."""
    at_metric = at_param = at_tag = 0
    while at_metric < len(metrics) or at_param < len(params) or at_tag < len(tags):
        some_params = params[at_param : at_param + PARAMS_AT_ONCE]
        some_tags = tags[at_tag : at_tag + TAGS_AT_ONCE]
        room = min(METRICS_AT_ONCE, ENTITIES_AT_ONCE - len(some_params) - len(some_tags))
        some_metrics = metrics[at_metric : at_metric + room]
        yield some_metrics, some_params, some_tags
        at_metric += len(some_metrics)
        at_param += len(some_params)
        at_tag += len(some_tags)
