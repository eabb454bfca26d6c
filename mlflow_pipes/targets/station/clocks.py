"""Times that another machine tells, by this one's clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import TargetEvent

BEARABLE_S = 1.0
"""Clocks that differ by less are left alone: how far they do is only known as well as news travel fast."""

_TIMES = ("at", "started_at", "ended_at")


def by_our_clock(event: TargetEvent, is_behind_s: float) -> TargetEvent:
    """Return an event with its times as this machine would have told them.

    Args:
        event: as the other machine told it.
        is_behind_s: how far its clock is behind ours.
    """
    if abs(is_behind_s) < BEARABLE_S:
        return event
    moved: dict[str, Any] = {name: getattr(event, name) + is_behind_s for name in _TIMES if hasattr(event, name)}
    return replace(event, **moved) if moved else event
