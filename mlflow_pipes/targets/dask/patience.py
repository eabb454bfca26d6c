"""How long steps wait for a worker that fits them. Knows no Dask and no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import AttemptId


class Patience:
    """Since when no worker fits a step. All attempts at a step share one patience: a retry does not wait anew.

    Args:
        most_s: how long it may be so.
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._since: dict[tuple[str, str], float] = {}

    def is_over(self, attempt: AttemptId, now: float) -> bool:
        """Note that no worker fits; tell whether that has been so for too long."""
        return now - self._since.setdefault(attempt[:2], now) > self.most_s

    def fits(self, attempt: AttemptId) -> None:
        """Note that a worker fits."""
        self._since.pop(attempt[:2], None)
