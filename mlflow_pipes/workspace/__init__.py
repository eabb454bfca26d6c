"""Where a project's runs, cache and data live: configuration, ledger, run records, logs, garbage collection.

Nothing heavy is imported before a workspace is opened.
"""

from __future__ import annotations

from mlflow_pipes.workspace.records import Run, StepRun
from mlflow_pipes.workspace.workspace import Workspace

__all__ = ["Run", "StepRun", "Workspace"]
