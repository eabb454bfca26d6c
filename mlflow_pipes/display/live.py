"""The live view on a terminal: steps below, what they write above. Rich is imported once something is drawn."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from mlflow_pipes.display.lines import MOST_LINES, run_lines, step_lines
from mlflow_pipes.display.look import Line, Look
from mlflow_pipes.display.plain import PlainObserver
from mlflow_pipes.display.progress import RunProgress
from mlflow_pipes.display.spoken import Spoken
from mlflow_pipes.display.summary import summary_lines
from mlflow_pipes.display.ticker import Ticker
from mlflow_pipes.model.attempt import LogLine, TargetEvent
from mlflow_pipes.model.run import Record, RunEnded, RunStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.live import Live

REFRESH_S = 0.125
PATIENCE_S = 0.3  # a run that is over sooner gets its summary only, and rich is not even imported
SPARE_LINES = 4  # of the terminal's height, left for what stood there before


class LiveObserver:
    """Implements ``ports.RunObserver``: counts in the engine's thread, draws in its own at most 8 times a second."""

    def __init__(
        self, stream: TextIO, look: Look, *, expected: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._stream = stream
        self._look = look
        self._clock = clock
        self.progress = RunProgress(expected)
        self._spoken = Spoken()
        self._live: Live | None = None
        self._region: Any = None
        self._instead: PlainObserver | None = None
        self._ticker: Ticker | None = None
        self._tick = 0
        self._closed = False

    def recorded(self, records: Sequence[Record]) -> None:
        """Count records; the first one starts the drawing, the run's end writes the summary."""
        for record in records:
            if isinstance(record, RunStarted) and record.target == "inline":
                # Steps run in this process, perhaps under a debugger: nothing may move on the terminal meanwhile.
                self._instead = PlainObserver(self._stream, self._look, clock=self._clock)
            if self._instead is not None:
                self._instead.recorded([record])
                continue
            self.progress.record(record)
            if isinstance(record, RunStarted) and self._ticker is None:
                self._ticker = Ticker(self.draw, first_s=PATIENCE_S, interval_s=REFRESH_S)
                self._ticker.start()
                atexit.register(self.close)  # the cursor comes back also when the run never ends
            elif isinstance(record, RunEnded):
                self._finish()

    def seen(self, event: TargetEvent) -> None:
        """Take a log line, a start or progress."""
        if self._instead is not None:
            self._instead.seen(event)
        elif isinstance(event, LogLine):
            self._spoken.add(event)
        else:
            self.progress.event(event)

    def draw(self) -> None:
        """Draw once; called by the ticker."""
        columns, rows = shutil.get_terminal_size()
        self._look = replace(self._look, width=max(20, columns - 1))
        self._tick += 1
        now = self._clock()
        room = max(3, min(MOST_LINES + 1, rows - SPARE_LINES))
        lines = run_lines(self.progress, self._look, now, room=room, tick=self._tick)
        live = self._started()
        self._region.lines = [self._look.cut(line) for line in lines]
        spoken = self._spoken.take(replace(self._look, width=None), now)
        if spoken:
            live.console.print(_region_class()(spoken, self._look), soft_wrap=True, end="")
        live.refresh()

    def close(self) -> None:
        """Take the live region away and give the terminal back. Idempotent."""
        if self._instead is not None:
            self._instead.close()
            return
        if self._ticker is not None:
            self._ticker.stop()
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._live is not None:
            self._live.stop()
        self._write(self._spoken.take(replace(self._look, width=None), self._clock()))

    def _finish(self) -> None:
        self.close()
        now = self._clock()
        steps = [self._look.cut(line) for line in step_lines(self.progress, self._look, now)]
        # Steps are cut to the width, for the eye; the summary is not: paths and commands are there to be copied.
        self._write([*steps, *([[]] if steps else []), *summary_lines(self.progress, self._look, now)])

    def _started(self) -> Live:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(
                file=self._stream,
                force_terminal=True,
                no_color=not self._look.colour,
                highlight=False,
                markup=False,
                emoji=False,
            )
            self._region = _region_class()([], self._look)
            # What the program itself prints goes above the region, unless it goes elsewhere anyway.
            self._live = Live(
                self._region,
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            self._live.start()
        return self._live

    def _write(self, lines: Sequence[Line]) -> None:
        # Nobody reads any more (the terminal is gone): the run is worth more than its lines.
        with contextlib.suppress(OSError, ValueError):
            uncut = replace(self._look, width=None)
            self._stream.write("".join(uncut.text(line) + "\n" for line in lines))
            self._stream.flush()


_region_made: Any = None


def _region_class() -> Any:
    """Return the class of a rich renderable for lines that are already cut: no measuring, no wrapping, no parsing."""
    global _region_made  # noqa: PLW0603 - made once, when rich is there
    if _region_made is None:
        from rich.segment import Segment
        from rich.style import Style

        class Region:
            """Lines as segments."""

            def __init__(self, lines: Sequence[Line], look: Look) -> None:
                self.lines = list(lines)
                self._look = look

            def __rich_console__(self, console: Any, options: Any) -> Any:
                for line in self.lines:
                    for text, style in line if self._look.colour else [(text, "") for text, _ in line]:
                        yield Segment(self._look.readable(text), Style.parse(style) if style else None)
                    yield Segment.line()

        _region_made = Region
    return _region_made
