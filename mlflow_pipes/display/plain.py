"""Plain lines for logs of continuous integration, files and pipes: bounded, whatever the size of the run."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from mlflow_pipes.display.lines import counts_words
from mlflow_pipes.display.look import STATUS_STYLE, Line, Look
from mlflow_pipes.display.progress import RunProgress, StepProgress, problem_of, why_ended
from mlflow_pipes.display.spoken import Spoken
from mlflow_pipes.display.summary import summary_lines
from mlflow_pipes.display.ticker import Ticker
from mlflow_pipes.display.words import duration, short_id
from mlflow_pipes.model.attempt import LogLine, TargetEvent
from mlflow_pipes.model.blame import is_inner
from mlflow_pipes.model.run import Record, RunEnded, RunStarted, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEP_LINES = 200  # ended steps that get a line each; after that they are counted
FAILED_LINES = 50
TALLY_S = 5.0  # between two counting lines
LONG_S = 1.0  # a step that runs longer is announced while it runs


class PlainObserver:
    """Implements ``ports.RunObserver``: one line when a step ends, and when it starts if it takes a while.

    The engine's thread only counts and queues; lines are written by a thread of their own, because a pipe may be slow.
    """

    def __init__(
        self, stream: TextIO, look: Look | None = None, *, expected: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._stream = stream
        # Lines in a file or a pipe are not cut; those on a terminal may wrap.
        self._look = replace(look or Look(), width=None)
        self._clock = clock
        self.progress = RunProgress(expected)
        self._spoken = Spoken()
        self._ended: deque[StepProgress] = deque()
        self._accepted = 0
        self._failed = 0
        self._announced: set[str] = set()
        self._tally_at = 0.0
        self._tally_of = 0
        self._ticker: Ticker | None = None
        self._closed = False

    def recorded(self, records: Sequence[Record]) -> None:
        """Count records; the run's start and end are written."""
        progress = self.progress
        for record in records:
            step = progress.record(record)
            if step is not None:
                if step.status is Status.FAILED and self._failed < FAILED_LINES:
                    if not is_inner(step.reason):  # what failed in it has its line
                        self._failed += 1
                        self._ended.append(step)
                elif self._accepted < STEP_LINES and step.status is not Status.FAILED:
                    self._accepted += 1
                    self._ended.append(step)
            elif isinstance(record, RunStarted):
                resumes = f", resumes {short_id(record.resumed_from)}" if record.resumed_from else ""
                self._write([[(record.pipeline, "bold"), (f"  run {short_id(record.run_id)}{resumes}", "dim")]])
                self._tally_at = self._clock()
                self._ticker = Ticker(self.draw, first_s=0.2, interval_s=0.25)
                self._ticker.start()
            elif isinstance(record, RunEnded):
                self._finish()

    def seen(self, event: TargetEvent) -> None:
        """Take a log line, a start or progress."""
        if isinstance(event, LogLine):
            self._spoken.add(event)
        else:
            self.progress.event(event)

    def draw(self) -> None:
        """Write what has come up; called by the ticker."""
        now = self._clock()
        lines: list[Line] = self._spoken.take(self._look, now)
        while self._ended:
            lines.append(self._ended_line(self._ended.popleft(), now))
        if self._accepted < STEP_LINES:
            lines += self._long_lines(now)
        elif now - self._tally_at >= TALLY_S and self.progress.ended > self._tally_of:
            lines.append(self._tally_line(now))
        self._write(lines)

    def close(self) -> None:
        """Stop writing. Idempotent."""
        if self._ticker is not None:
            self._ticker.stop()
        if not self._closed:
            self._closed = True
            self.draw()

    def _finish(self) -> None:
        self.close()
        lines = summary_lines(self.progress, self._look, self._clock())
        self._write([[], *lines] if self.progress.failures or self.progress.metrics else lines)

    def _ended_line(self, step: StepProgress, now: float) -> Line:
        status = step.status
        word = "ran" if status is Status.SUCCEEDED else status.value
        line: Line = [(f"{self._look.symbol(status)} ", STATUS_STYLE[status]), (step.node, ""), (f"  {word}", "")]
        if status is Status.SUCCEEDED:
            line.append((f" in {duration(step.elapsed_s(now))}", ""))
        elif status is Status.FAILED:
            line.append((f": {problem_of(step)}", "red"))
        elif step.reason and status is not Status.REUSED:
            line.append((why_ended(step), ""))
        return line

    def _long_lines(self, now: float) -> list[Line]:
        lines: list[Line] = []
        for step in list(self.progress.running.values()):
            key = f"{step.node}#{step.attempt}"
            if key not in self._announced and step.elapsed_s(now) > LONG_S and len(self._announced) < STEP_LINES:
                self._announced.add(key)
                attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
                sign = self._look.symbol(Status.RUNNING)
                lines.append([(f"{sign} ", STATUS_STYLE[Status.RUNNING]), (f"{step.node}  started{attempt}", "")])
        return lines

    def _tally_line(self, now: float) -> Line:
        self._tally_at = now
        self._tally_of = self.progress.ended
        line: Line = [
            (f"{self._look.symbol(Status.RUNNING)} {self.progress.ended:,}/{self.progress.total:,} steps", ""),
            (f" after {duration(self.progress.elapsed_s(now))}", "dim"),
        ]
        for index, (text, style) in enumerate(counts_words(self.progress.counts)):
            line += [(", " if index else ": ", "dim"), (text, style)]
        return line

    def _write(self, lines: Sequence[Line]) -> None:
        if not lines:
            return
        text = "".join(self._look.text(line) + "\n" for line in lines)
        # Nobody reads any more (a closed pipe): the run is worth more than its lines.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
