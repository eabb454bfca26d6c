"""How many attempts a task is given at once: those that take no time should not wait for the next message."""

from __future__ import annotations

_WITHIN_S = 0.05
_MOST = 4


class Tempo:
    """What attempts at each step usually take, and what follows.

    Of long ones none is sent ahead: it would wait for the one before it while another task is free.

    Attributes:
        latest: how many a task may have of the step that was done last.
    """

    def __init__(self) -> None:
        self.latest = 1
        self._usual_s: dict[str, float] = {}

    def ahead(self, step: str) -> int:
        """Return how many attempts a task may have, when this is one of them; 1 when nothing is known of the step."""
        usual_s = self._usual_s.get(step)
        return 1 if usual_s is None else max(1, min(_MOST, round(_WITHIN_S / max(usual_s, 1e-3))))

    def took(self, step: str, duration_s: float) -> None:
        """Note how long an attempt at a step took."""
        usual_s = self._usual_s.get(step, duration_s)
        self._usual_s[step] = usual_s + 0.3 * (duration_s - usual_s)
        self.latest = self.ahead(step)
