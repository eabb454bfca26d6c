"""``diff``: what differs between two recorded runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.records import Run, StepRun
from mlflow_pipes.workspace.runs import Runs
from mlflow_pipes.workspace.step_changes import (
    StepDifference,
    StepFacts,
    ValueChange,
    environment_changes,
    step_differences,
    value_changes,
)
from mlflow_pipes.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RunDifference:
    """What differs between two runs.

    Attributes:
        before, after: the runs.
        steps: of both, with what became of each; in the order of the second run, then those that are gone.
        parameters: of the pipeline call, that differ.
        tags: that differ.
        facts: other things recorded of the runs that differ: git commit and branch, whether there were uncommitted
            changes, file, target, host, user.
        environment: distributions and Python that steps reach, in other versions.
        metrics: last numbers, as ``node/key``, that differ.
        metrics_same: how many metrics are in both and equal.
    """

    before: Run
    after: Run
    steps: tuple[StepDifference, ...]
    parameters: tuple[ValueChange, ...]
    tags: tuple[ValueChange, ...]
    facts: tuple[ValueChange, ...]
    environment: tuple[ValueChange, ...]
    metrics: tuple[ValueChange, ...]
    metrics_same: int

    def step(self, node: str) -> StepDifference:
        """Return what became of one node; ``KeyError`` when neither run has it."""
        for difference in self.steps:
            if difference.node == node:
                return difference
        raise KeyError(node)

    @property
    def unstable(self) -> tuple[StepDifference, ...]:
        """Steps whose outputs differ though their code and inputs do not."""
        return tuple(difference for difference in self.steps if difference.fate == "unstable")


def diff(
    run_a: Run | str | None = None,
    run_b: Run | str = "latest",
    *,
    workspace: Workspace | str | Path | None = None,
) -> RunDifference:
    """Return what differs from one run to another: steps, code, inputs, outputs, metrics, durations, environment.

    Args:
        run_a: the run to start from: a record, a run id, an unambiguous prefix, or ``latest``; None for the run of
            the same pipeline before *run_b*.
        run_b: the run to compare with it.
        workspace: as for ``run``.

    Raises:
        NotFoundError: no such run; near names are suggested. Or there is none before it.
    """
    home = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    after = _record(home.runs, run_b)
    before = home.runs.before(after) if run_a is None else _record(home.runs, run_a)
    steps = step_differences(
        [_facts(home.runs, step) for step in before.steps], [_facts(home.runs, step) for step in after.steps]
    )
    metrics_before, metrics_after = before.metrics, after.metrics
    metrics = value_changes(metrics_before, metrics_after)
    return RunDifference(
        before,
        after,
        tuple(steps),
        parameters=tuple(value_changes(before.parameters, after.parameters)),
        tags=tuple(value_changes(before.tags, after.tags)),
        facts=tuple(value_changes(_surroundings(before), _surroundings(after))),
        environment=tuple(environment_changes(steps)),
        metrics=tuple(metrics),
        metrics_same=len(metrics_before.keys() | metrics_after.keys()) - len(metrics),
    )


def _record(runs: Runs, run: Run | str) -> Run:
    return run if isinstance(run, Run) else runs.get(run)


def _facts(runs: Runs, step: StepRun) -> StepFacts:
    return StepFacts(
        node=step.node,
        status=step.status,
        key=step.key,
        ingredients=runs.ingredients(step),
        output=step.artifact.identity if step.artifact is not None and step.status.good else "",
        duration_s=None if step.reused else step.duration_s,
        parameters=step.parameters,
        parents=step.parents,
    )


def _surroundings(run: Run) -> Mapping[str, str]:
    return {
        "pipeline": run.pipeline,
        "commit": run.source.commit,
        "branch": run.source.branch,
        "uncommitted changes": "yes" if run.source.dirty else "no",
        "file": run.file,
        "target": run.target,
        "host": run.host,
        "user": run.user,
        "experiment": run.experiment,
    }
