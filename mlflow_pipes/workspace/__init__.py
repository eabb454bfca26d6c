"""Where a project's runs, cache and data live: configuration, ledger, run records, logs, garbage collection.

Nothing heavy is imported before a workspace is opened, and its parts not before they are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_pipes.workspace.records import Run, StepRun
    from mlflow_pipes.workspace.workspace import Workspace

__all__ = ["Run", "StepRun", "Workspace"]


def __getattr__(name: str) -> Any:
    if name in {"Run", "StepRun"}:
        from mlflow_pipes.workspace import records

        return getattr(records, name)
    if name == "Workspace":
        from mlflow_pipes.workspace.workspace import Workspace

        return Workspace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
