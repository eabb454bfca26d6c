"""Pipelines of plain Python functions: content-hashed, reused, recorded in MLflow.

Public names are imported when first used, so that ``import mlflow_pipes`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_pipes.authoring import OutputRef, allow_failure, each, pipeline, step
    from mlflow_pipes.content import SignedModel
    from mlflow_pipes.errors import PipesError, RunFailed
    from mlflow_pipes.model.environment import Environment
    from mlflow_pipes.model.outcome import RunOutcome, StepFailure
    from mlflow_pipes.model.step import RetryPolicy
    from mlflow_pipes.worker.context import RunContext, current_run
    from mlflow_pipes.workspace import Run, StepRun, Workspace
    from mlflow_pipes.workspace.difference import diff
    from mlflow_pipes.workspace.explanation import explain
    from mlflow_pipes.workspace.forecast import simulate
    from mlflow_pipes.workspace.planning import plan
    from mlflow_pipes.workspace.run_configuration import RunConfiguration
    from mlflow_pipes.workspace.running import resume, run

__version__ = "0.1.0"

_HOME = {
    "Environment": "model.environment",
    "OutputRef": "authoring",
    "PipesError": "errors",
    "RetryPolicy": "model.step",
    "Run": "workspace",
    "RunConfiguration": "workspace.run_configuration",
    "RunContext": "worker.context",
    "RunFailed": "errors",
    "RunOutcome": "model.outcome",
    "SignedModel": "content",
    "StepFailure": "model.outcome",
    "StepRun": "workspace",
    "Workspace": "workspace",
    "allow_failure": "authoring",
    "current_run": "worker.context",
    "diff": "workspace.difference",
    "each": "authoring",
    "explain": "workspace.explanation",
    "pipeline": "authoring",
    "plan": "workspace.planning",
    "resume": "workspace.running",
    "run": "workspace.running",
    "simulate": "workspace.forecast",
    "step": "authoring",
}

__all__ = [
    "Environment",
    "OutputRef",
    "PipesError",
    "RetryPolicy",
    "Run",
    "RunConfiguration",
    "RunContext",
    "RunFailed",
    "RunOutcome",
    "SignedModel",
    "StepFailure",
    "StepRun",
    "Workspace",
    "__version__",
    "allow_failure",
    "current_run",
    "diff",
    "each",
    "explain",
    "pipeline",
    "plan",
    "resume",
    "run",
    "simulate",
    "step",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
