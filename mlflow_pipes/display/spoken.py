"""Lines that steps write, waiting to be shown: bounded, so that a talkative step costs neither memory nor time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mlflow_pipes.display.look import Line, Look, clip

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import LogLine

BURST_LINES = 1000  # kept between two draws
LINES_PER_S = 400  # shown over time; more than anybody can read
LABEL_CELLS = 28


class Spoken:
    """A queue of log lines between the engine's thread (:meth:`add`) and the drawing one (:meth:`take`).

    What comes faster than it may be shown is counted, not shown: the run's log holds every line.
    """

    def __init__(self) -> None:
        self._waiting: deque[LogLine] = deque(maxlen=BURST_LINES)
        self._added = 0
        self._taken = 0
        self._allowance = float(BURST_LINES)
        self._at: float | None = None

    def add(self, line: LogLine) -> None:
        """Take a line; the oldest one gives way when too many wait."""
        self._waiting.append(line)
        self._added += 1

    def take(self, look: Look, now: float) -> list[Line]:
        """Return what may be shown now, each with its step's name in front, and a note about what may not."""
        if self._at is not None:
            self._allowance = min(BURST_LINES, self._allowance + max(0.0, now - self._at) * LINES_PER_S)
        self._at = now
        lines: list[Line] = []
        while self._waiting and self._allowance >= 1:
            lines.append(spoken_line(self._waiting.popleft(), look))
            self._allowance -= 1
        if self._allowance < 1:
            self._waiting.clear()
        # An add between reading these two is shown at the next draw and counted right then.
        missed = self._added - self._taken - len(lines) - len(self._waiting)
        self._taken += len(lines) + max(missed, 0)
        if missed > 0:
            lines.append([(f"{look.dots} {missed:,} lines not shown here: pipes logs has them all", "dim")])
        return lines


def spoken_line(line: LogLine, look: Look) -> Line:
    """Return a step's line with its name in front; what is an error or our own word looks different."""
    label = clip(line.attempt.node, LABEL_CELLS, look.dots)
    style = "yellow" if line.stream == "pipes" else ""
    return [(f"{label} {look.rule} ", "dim"), (line.text, style)]
