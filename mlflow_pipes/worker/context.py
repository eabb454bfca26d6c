"""``current_run()``: what a step can ask about its own run, and say about it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.attempt import Assignment, AttemptId, Progress
from mlflow_pipes.model.step import PickledFunction
from mlflow_pipes.worker import secrets
from mlflow_pipes.worker.metrics import metric_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_pipes.model.attempt import TargetEvent
    from mlflow_pipes.model.tracked import Metric
    from mlflow_pipes.ports import Datastore

# A step that reports progress from an inner loop must not flood the orchestrator.
_PROGRESS_INTERVAL_S = 0.1


class RunContext:
    """The run of one step, as seen from inside its function.

    Outside a run (in a unit test, a notebook) the same object works offline: what is logged collects in
    :attr:`metrics`, progress goes nowhere, ``scratch`` is a temporary folder.

    Attributes:
        offline: whether there is no run around the function.
        workspace: folder of the workspace, None where the worker has none.
    """

    __slots__ = ("__weakref__", "_assignment", "_datastore", "_emit", "_folder", "_last_progress", "_made", "_metrics",
                 "_steps", "offline", "workspace")  # fmt: skip

    def __init__(
        self,
        assignment: Assignment,
        *,
        folder: Path | None,
        emit: Callable[[TargetEvent], None],
        datastore: Datastore | None = None,
        workspace: str | None = None,
        offline: bool = False,
    ) -> None:
        self._assignment = assignment
        self._folder = folder
        self._emit = emit
        self._datastore = datastore
        self.workspace = workspace or None
        self.offline = offline
        self._metrics: list[Metric] = []
        self._steps: dict[str, int] = {}
        self._made: Path | None = None
        self._last_progress = -1.0

    @property
    def id(self) -> str:
        """The id of this step's run: 32 hex digits, also its MLflow run's where the workspace owns MLflow's store."""
        return self._assignment.step_run_id

    @property
    def run_id(self) -> str:
        """The id of the whole pipeline run."""
        return self._assignment.attempt.run_id

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self._assignment.pipeline

    @property
    def node(self) -> str:
        """The id of this call in the graph: ``outer/train[max_depth=8]``."""
        return self._assignment.attempt.node

    @property
    def name(self) -> str:
        """The name of this call, without the pipelines it stands in: ``train[max_depth=8]``."""
        return last_part(self._assignment.attempt.node)

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._assignment.attempt.number

    @property
    def idempotency_key(self) -> str:
        """A key for services that know such keys: what is asked of them twice with one key is done once.

        The same for all attempts of this step in its run and in the runs that resume it; another for every other step,
        other arguments or code, and other runs.
        """
        return self._assignment.idempotency_key

    @property
    def random_seed(self) -> int:
        """A seed that follows from the step's code and inputs: the same work has the same seed."""
        return self._assignment.random_seed

    @property
    def tags(self) -> Mapping[str, str]:
        """The labels of the step."""
        return self._assignment.tags

    @property
    def inputs(self) -> Mapping[str, str]:
        """The identity (64 hex digits) of each argument's content, by parameter name: what lineage is told by."""
        return {name: artifact.identity for name, artifact in self._assignment.arguments.items()}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What :meth:`log` was given so far."""
        return tuple(self._metrics)

    @property
    def has_scratch(self) -> bool:
        """Whether :attr:`scratch` was asked for."""
        return self._made is not None

    @property
    def scratch(self) -> Path:
        """A folder for temporary files; made when first asked for, removed after the attempt."""
        if self._made is None:
            if self._folder is None:
                self._made = Path(tempfile.mkdtemp(prefix="pipes-scratch-"))
                weakref.finalize(self, shutil.rmtree, self._made, ignore_errors=True)
            else:
                self._made = self._folder / "scratch"
                self._made.mkdir(parents=True, exist_ok=True)
        return self._made

    def log(self, name: str, value: Any, step: int | None = None) -> None:
        """Log a metric of this step's run.

        Args:
            name: its name; logging a name again makes a series.
            value: a number, a text, a list, a dict of columns or a data frame (a table), or a matplotlib figure.
            step: x-axis position; by default how often the name was logged before.

        Raises:
            ArgumentError: the value is none of these, or too long.
        """
        if step is None:
            step = self._steps.get(name, 0)
        self._steps[name] = step + 1
        metric = metric_of(name, value, step=step, timestamp_ms=time.time_ns() // 1_000_000)
        if metric.kind == "text":
            metric = replace(metric, plain=secrets.mask_of_process()(metric.plain))
        figure = metric.figure
        if figure is not None and figure.inline is not None and self._datastore is not None:
            self._datastore.put([figure.inline])
            metric = replace(metric, figure=replace(figure, inline=None))
        self._metrics.append(metric)

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Tell how far the step is: *done* of *total*. Calls that follow fast on another are dropped."""
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_INTERVAL_S or done >= total:
            self._last_progress = now
            shown = secrets.mask_of_process()(text) if text else ""
            self._emit(Progress(self._assignment.attempt, float(done), float(total), shown))

    def secret(self, name: str) -> str:
        """Return the secret *name*, from the environment variable ``PIPES_SECRET_<NAME>``.

        Its value is shown as ``***`` in log lines and failures.

        Raises:
            NotFoundError: the variable is not set.
        """
        return secrets.secret(name, os.environ)


def last_part(node: str) -> str:
    """Return a node's id without the groups it stands in.

    >>> last_part("outer[a/b]/train[path=x/y]")
    'train[path=x/y]'
    """
    start = depth = 0
    for position, letter in enumerate(node):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "/" and depth == 0:
            start = position + 1
    return node[start:]


_active: ContextVar[RunContext | None] = ContextVar("mlflow_pipes_run", default=None)
# Threads that a step starts do not inherit its context variables; where one attempt runs they mean that one.
_everywhere: list[RunContext] = []
_offline: list[RunContext] = []
_importing: list[str] = []


def current_run() -> RunContext:
    """Return the run that the calling code belongs to; outside a run one that works offline."""
    context = _active.get()
    if context is not None:
        return context
    if len(_everywhere) == 1:
        return _everywhere[0]
    if not _offline:
        nowhere = Assignment(AttemptId("offline", "offline", 1), "", PickledFunction("", b""), {})
        _offline.append(RunContext(nowhere, folder=None, emit=lambda _: None, offline=True))
    return _offline[0]


@contextmanager
def active(context: RunContext) -> Iterator[None]:
    """Make *context* the current run."""
    token = _active.set(context)
    _everywhere.append(context)
    try:
        yield
    finally:
        _everywhere.remove(context)
        _active.reset(token)


@contextmanager
def importing(module: str) -> Iterator[None]:
    """Remember that *module* is being imported to find what it declares."""
    _importing.append(module)
    try:
        yield
    finally:
        _importing.pop()


def importing_user_module() -> str | None:
    """Return the module that a worker or the command line is importing right now, None otherwise.

    ``run(...)`` refuses to start while there is one: the module calls it without
    ``if __name__ == "__main__":`` around it.
    """
    return _importing[-1] if _importing else None
