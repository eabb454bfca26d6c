"""The target that runs attempts in worker processes of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_pipes.targets.local.target import LocalTarget

__all__ = ["LocalTarget"]


def __getattr__(name: str) -> Any:
    # Workers live in this package, too, and start faster without the orchestrator's half of it.
    if name == "LocalTarget":
        from mlflow_pipes.targets.local.target import LocalTarget

        return LocalTarget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
