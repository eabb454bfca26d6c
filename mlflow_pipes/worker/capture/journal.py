"""The journal of one attempt: what MLflow calls in a step state, one JSON line a fact, and what the facts add up to.

Appending is one ``write`` on a file opened for appending, so threads, forked children and subprocesses of the step
share a journal without locks. What was logged is the replay of the lines; no MLflow is needed for that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Fact: TypeAlias = list[Any]
Point: TypeAlias = tuple[str, float, int, int]  # key, value, step, milliseconds since the epoch


@dataclass(slots=True)
class LoggedRun:
    """A run as the journal tells it: the step's own, or one that the step started below it.

    Attributes:
        points: in the order logged, once each.
        latest: each metric's newest point: highest step, then time, then value, as MLflow's SQL store has it.
        datasets: ``{"dataset": ..., "tags": ...}`` per logged input.
        model_outputs: model id -> step at which it was logged.
    """

    run_id: str
    name: str = ""
    parent_id: str | None = None
    status: str = "RUNNING"
    started_ms: int = 0
    ended_ms: int | None = None
    deleted: bool = False
    points: dict[Point, None] = field(default_factory=dict)
    latest: dict[str, Point] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    model_inputs: list[str] = field(default_factory=list)
    model_outputs: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class LoggedModelState:
    """A logged model (an MLflow 3 entity) as the journal tells it.

    Attributes:
        points: ``(key, value, step, timestamp_ms, run_id, dataset_name, dataset_digest)``, in order, once each.
    """

    model_id: str
    name: str
    run_id: str | None = None
    model_type: str | None = None
    status: str = "PENDING"
    created_ms: int = 0
    updated_ms: int = 0
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: dict[tuple[Any, ...], None] = field(default_factory=dict)


@dataclass(slots=True)
class Logged:
    """All that a journal says."""

    runs: dict[str, LoggedRun] = field(default_factory=dict)
    models: dict[str, LoggedModelState] = field(default_factory=dict)
    dropped_traces: int = 0


def _run(logged: Logged, run_id: str) -> LoggedRun:
    return logged.runs.setdefault(run_id, LoggedRun(run_id))


def _new_run(logged: Logged, fields: dict[str, Any]) -> None:
    run = _run(logged, fields["run_id"])
    for name, value in fields.items():
        setattr(run, name, value)


def _metric(logged: Logged, run_id: str, point: list[Any], model_id: str | None, dataset: list[Any]) -> None:
    key, value, step, timestamp_ms = point
    run = _run(logged, run_id)
    known = run.latest.get(key)
    if known is None or (step, timestamp_ms, value) >= (known[2], known[3], known[1]):
        run.latest[key] = (key, value, step, timestamp_ms)
    # log_model logs the run's metrics once more, for the model; MLflow's SQL store keeps equal points once too.
    run.points[key, value, step, timestamp_ms] = None
    if model_id in logged.models:
        logged.models[model_id].points[key, value, step, timestamp_ms, run_id, *dataset] = None


def _new_model(logged: Logged, fields: dict[str, Any]) -> None:
    logged.models[fields["model_id"]] = LoggedModelState(**fields)


def _change_model(logged: Logged, model_id: str, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(logged.models[model_id], name, value)


def _dataset(logged: Logged, run_id: str, dataset: dict[str, Any], tags: dict[str, str]) -> None:
    datasets = _run(logged, run_id).datasets
    identity = (dataset["name"], dataset["digest"])
    if identity not in [(known["dataset"]["name"], known["dataset"]["digest"]) for known in datasets]:
        datasets.append({"dataset": dataset, "tags": tags})


def _model_input(logged: Logged, run_id: str, model_id: str) -> None:
    models = _run(logged, run_id).model_inputs
    if model_id not in models:
        models.append(model_id)


def _trace(logged: Logged) -> None:
    logged.dropped_traces += 1


# What each kind of fact does to what is known. The journal is private to one attempt: no versions to care for.
_MOVES: dict[str, Callable[..., Any]] = {
    "run": _new_run,
    "metric": _metric,
    "param": lambda logged, run_id, key, value: _run(logged, run_id).params.update({key: value}),
    "tag": lambda logged, run_id, key, value: _run(logged, run_id).tags.update({key: value}),
    "untag": lambda logged, run_id, key: _run(logged, run_id).tags.pop(key, None),
    "dataset": _dataset,
    "model-input": _model_input,
    "model-output": lambda logged, run_id, model_id, step: _run(logged, run_id).model_outputs.setdefault(
        model_id, step
    ),
    "model": _new_model,
    "model-change": _change_model,
    "model-tag": lambda logged, model_id, key, value: logged.models[model_id].tags.update({key: value}),
    "model-untag": lambda logged, model_id, key: logged.models[model_id].tags.pop(key, None),
    "model-param": lambda logged, model_id, key, value: logged.models[model_id].params.update({key: value}),
    "trace": _trace,
}


def apply(logged: Logged, fact: Fact) -> None:
    """Add one fact to what is known."""
    kind, *arguments = fact
    _MOVES[kind](logged, *arguments)


class Journal:
    """A journal file, written and read by any number of threads and processes of one attempt."""

    __slots__ = ("_closed", "_file", "_offset", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._offset = 0
        self._closed = False

    def _descriptor(self) -> int:
        if self._file < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._file

    def append(self, *facts: Fact) -> None:
        """Write facts down, all in one piece."""
        if facts and not self._closed:
            lines = "".join([json.dumps(fact, separators=(",", ":")) + "\n" for fact in facts])
            os.write(self._descriptor(), lines.encode())

    def unread(self) -> Iterator[Fact]:
        """Yield the facts written since the last call, by whomever."""
        if self._closed:
            return
        size = os.fstat(self._descriptor()).st_size
        if size <= self._offset:
            return
        content = os.pread(self._file, size - self._offset, self._offset)
        whole = content.rfind(b"\n") + 1  # another process may be in the middle of a line
        self._offset += whole
        for line in content[:whole].splitlines():
            yield json.loads(line)

    def close(self) -> None:
        """Let the file go; facts appended later are dropped."""
        self._closed = True
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def replay(path: Path) -> Logged:
    """Return what a journal says; nothing when there is no such file."""
    logged = Logged()
    if path.exists():
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    apply(logged, json.loads(line))
    return logged
