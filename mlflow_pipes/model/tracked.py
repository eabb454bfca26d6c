"""What a step logged about itself: metrics, parameters, tags, figures; through MLflow or ``current_run()``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.quick_dataclasses import dataclass

MetricKind: TypeAlias = Literal["number", "text", "list", "table", "figure"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One logged value.

    Attributes:
        key: its name.
        kind: which of the other fields holds it: *number* for ``number``; *plain* (JSON-like) for ``text``,
            ``list`` and ``table`` (a dict of column name to list); *figure* for ``figure`` (a PNG file leaf).
        step: x-axis position, for series.
        timestamp_ms: when it was logged, milliseconds since the epoch (MLflow's unit).
    """

    key: str
    kind: MetricKind = "number"
    number: float | None = None
    plain: Any = None
    figure: Leaf | None = None
    step: int = 0
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class Tracked:
    """All that one attempt logged.

    Attributes:
        metrics: in the order logged.
        params: MLflow parameters.
        tags: MLflow tags set by the user.
        artifacts: a folder leaf (codec ``tree``) with the files logged by ``mlflow.log_artifact`` and the like.
        nested: further MLflow runs that the step started below its own, as JSON-like records that the
            publisher understands (module tracking).
        extra: other MLflow entities (logged models, dataset inputs), as JSON-like records for the publisher.
    """

    metrics: tuple[Metric, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Leaf | None = None
    nested: tuple[Any, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.metrics or self.params or self.tags or self.artifacts or self.nested or self.extra)


NOTHING_TRACKED = Tracked()
