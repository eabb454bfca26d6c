"""From what the ledger says of a run to the sheets that MLflow is to show: its own, and those of runs nested in it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.tracked import Metric
from mlflow_pipes.tracking.names import (
    EXPERIMENT_CHARACTERS,
    NAME_CHARACTERS,
    PARAM_CHARACTERS,
    TAG_CHARACTERS,
    clean_key,
    clean_values,
    distinct_keys,
)
from mlflow_pipes.tracking.sheet import MLFLOW_STATUS, NOTE, Files, Point, Sheet
from mlflow_pipes.wording import clipped
from mlflow_pipes.worker.capture.location import subfolder_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow_pipes.model.artifact import Leaf
    from mlflow_pipes.model.publication import Publication

_LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"  # the tag by which MLflow's UI finds tables


def render(publication: Publication) -> list[Sheet]:
    """Return the run's sheet, then those of runs nested in it, parents first."""
    shown = _Shown(publication.metrics)
    started_ms = _ms(publication.started_at)
    own = Sheet(
        run_id=publication.run_id,
        experiment=clipped(publication.experiment or "Default", EXPERIMENT_CHARACTERS),
        name=clipped(publication.name, NAME_CHARACTERS),
        status=MLFLOW_STATUS[publication.status],
        root_id=publication.root_id,
        parent_id=publication.parent_id,
        started_ms=started_ms if started_ms is not None else _ms(publication.ended_at),
        ended_ms=_ms(publication.ended_at) if publication.status.ended else None,
        user=publication.user,
        source_name=publication.source_file,
        params=clean_values(publication.params, PARAM_CHARACTERS),
        tags=_tags(publication, shown),
        points=shown.points,
        files=Files(publication.artifacts, "", shown.texts, shown.figures),
        models=tuple(publication.extra.get("models", ())),
        reused_from=publication.reused_from,
        known_as=publication.mlflow_run_id,
        **_links(publication.extra),
    )
    nested = [_nested(record, publication, own) for record in publication.nested]
    return [own, *_parents_first(nested, publication.run_id)]


def note(publication: Publication) -> str:
    """Return the run's description in Markdown: the user's own words, what went wrong, what came out."""
    parts = [publication.tags.get(NOTE, "").strip()]
    if publication.message:
        parts.append(f"**{publication.status.value}**: {publication.message}")
    if publication.outputs:
        lines = [f"- `{name}`: {text}" for name, text in publication.outputs.items()]
        parts.append("**Outputs**\n\n" + "\n".join(lines))
    return clipped("\n\n".join([part for part in parts if part]), TAG_CHARACTERS)


def _tags(publication: Publication, shown: _Shown) -> dict[str, str]:
    tags = {
        **shown.tags,
        **publication.tags,
        "pipes.run_id": publication.run_id,
        "pipes.root_id": publication.root_id,
        "pipes.kind": publication.kind,
        "pipes.status": publication.status.value,
        "mlflow.source.type": "LOCAL",
    }
    if publication.source_file:
        tags["mlflow.source.name"] = publication.source_file
    if publication.user:
        tags["mlflow.user"] = publication.user
    if publication.reused_from:
        tags["pipes.reused_from"] = publication.reused_from
    if description := note(publication):
        tags[NOTE] = description
    if shown.tables:
        known = json.loads(tags.get(_LOGGED_ARTIFACTS, "[]"))
        tags[_LOGGED_ARTIFACTS] = json.dumps([*known, *[{"path": path, "type": "table"} for path in shown.tables]])
    return clean_values(tags, TAG_CHARACTERS)


class _Shown:
    """Metrics of all kinds, as MLflow has them: numbers as points, the others as tags and files."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        names = distinct_keys(metric.key for metric in metrics)
        points: list[Point] = []
        self.tags: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.figures: dict[str, Leaf] = {}
        self.tables: list[str] = []
        for metric in metrics:
            name = names[metric.key]
            match metric.kind:
                case "number":
                    if metric.number is not None:
                        points.append(Point(name, metric.number, metric.step, metric.timestamp_ms))
                case "text":
                    self._text(name, str(metric.plain))
                case "list":
                    points += self._list(name, metric)
                case "table":
                    path = f"{name}.json"
                    self.texts[path] = json.dumps(_split(metric.plain))
                    if path not in self.tables:
                        self.tables.append(path)
                case "figure":
                    if metric.figure is not None:
                        self.figures[f"{name}.png"] = metric.figure
        self.points = in_order(points)

    def _text(self, name: str, text: str) -> None:
        self.tags[name] = clipped(text, TAG_CHARACTERS)
        if len(text) > TAG_CHARACTERS:
            self.texts[f"{name}.txt"] = text

    def _list(self, name: str, metric: Metric) -> list[Point]:
        values = list(metric.plain or ())
        if all(isinstance(value, int | float) for value in values):
            return [Point(name, float(value), index, metric.timestamp_ms) for index, value in enumerate(values)]
        self.texts[f"{name}.json"] = json.dumps(values)
        return []


def in_order(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the points, each once, by key in order of appearance, and by step and time within a key."""
    by_key: dict[str, dict[tuple[int, int, str], Point]] = {}
    for point in points:
        # NaN is not equal to itself; its text is.
        by_key.setdefault(point.key, {})[point.step, point.timestamp_ms, repr(point.value)] = point
    return tuple([point for series in by_key.values() for point in sorted(series.values(), key=newness)])


def newness(point: Point) -> tuple[int, int, float]:
    """Return what MLflow compares to find a metric's latest value; NaN counts as zero, as it is stored."""
    return point.step, point.timestamp_ms, 0.0 if math.isnan(point.value) else point.value


def _split(table: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return a table as ``mlflow.log_table`` writes it."""
    columns = list(table or {})
    longest = max([len(table[column]) for column in columns], default=0)
    rows = [[table[name][row] if row < len(table[name]) else None for name in columns] for row in range(longest)]
    return {"columns": columns, "data": rows}


def _nested(record: Mapping[str, Any], publication: Publication, own: Sheet) -> Sheet:
    names = distinct_keys(point[0] for point in record["metrics"])
    run_id = record["run_id"]
    tags = {
        **record["tags"],
        "pipes.run_id": run_id,
        "pipes.root_id": publication.root_id,
        "pipes.kind": "nested",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": own.source_name,
        "mlflow.user": own.user,
    }
    return Sheet(
        run_id=run_id,
        experiment=own.experiment,
        name=clipped(record["name"], NAME_CHARACTERS),
        # The step is over, so its nested runs are: one that the user's code did not end has ended with it.
        status="FINISHED" if record["status"] in {"RUNNING", "SCHEDULED"} else record["status"],
        root_id=publication.root_id,
        parent_id=record["parent_id"] or publication.run_id,
        started_ms=record["started_ms"],
        ended_ms=record["ended_ms"] or own.ended_ms,
        user=own.user,
        source_name=own.source_name,
        params=clean_values(record["params"], PARAM_CHARACTERS),
        tags=clean_values({key: value for key, value in tags.items() if value}, TAG_CHARACTERS),
        points=in_order(Point(names[key], value, step, at) for key, value, step, at in record["metrics"]),
        files=Files(publication.artifacts, subfolder_of_run(run_id, publication.run_id)),
        **_links(record),
    )


def _links(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "datasets": tuple(record.get("datasets", ())),
        "model_inputs": tuple(record.get("model_inputs", ())),
        "model_outputs": tuple((model_id, step) for model_id, step in record.get("model_outputs", ())),
    }


def _parents_first(sheets: list[Sheet], root: str) -> list[Sheet]:
    ordered: list[Sheet] = []
    known = {root}
    waiting = sheets
    while waiting:
        ready = [sheet for sheet in waiting if sheet.parent_id in known]
        if not ready:  # a parent that is not ours to show: directly below the step
            return ordered + waiting
        ordered += ready
        known |= {sheet.run_id for sheet in ready}
        waiting = [sheet for sheet in waiting if sheet.run_id not in known]
    return ordered


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


__all__ = ["clean_key", "in_order", "newness", "note", "render"]
