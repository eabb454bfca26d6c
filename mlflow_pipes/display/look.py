"""How things look on a stream: colours, symbols, widths. Pure but for :meth:`Look.of`, which asks the stream."""

from __future__ import annotations

import re
import shutil
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, TypeAlias

from mlflow_pipes.model.run import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Span: TypeAlias = tuple[str, str]
"""A piece of a line and its style: ``""`` or words such as ``bold``, ``dim``, ``red``."""
Line: TypeAlias = list[Span]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
# CSI and OSC sequences, two-byte escapes, other control characters: a step's output must not steer the terminal.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)

STATUS_STYLE = {
    Status.WAITING: "dim",
    Status.LOOKING_UP: "dim",
    Status.QUEUED: "dim",
    Status.RUNNING: "cyan",
    Status.SUCCEEDED: "green",
    Status.REUSED: "blue",
    Status.FAILED: "red",
    Status.SKIPPED: "dim",
    Status.CANCELLED: "yellow",
    Status.INTERRUPTED: "yellow",
}
_UNICODE_SYMBOL = {
    Status.WAITING: "·",
    Status.LOOKING_UP: "·",
    Status.QUEUED: "·",
    Status.RUNNING: "▸",
    Status.SUCCEEDED: "✓",
    Status.REUSED: "↺",
    Status.FAILED: "✗",
    Status.SKIPPED: "○",
    Status.CANCELLED: "■",
    Status.INTERRUPTED: "■",
}
_ASCII_SYMBOL = {
    Status.WAITING: ".",
    Status.LOOKING_UP: ".",
    Status.QUEUED: ".",
    Status.RUNNING: ">",
    Status.SUCCEEDED: "+",
    Status.REUSED: "=",
    Status.FAILED: "x",
    Status.SKIPPED: "-",
    Status.CANCELLED: "!",
    Status.INTERRUPTED: "!",
}
_UNICODE_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER = "|/-\\"
_BARS = "▁▂▃▄▅▆▇█"
_SAMPLE = "✓✗↺·▸○■│█░…⠋" + _BARS


@dataclass(frozen=True)
class Look:
    """What a stream can show.

    Attributes:
        colour: whether to write ANSI colours.
        unicode: whether the stream's encoding has our symbols; ASCII stands in for them otherwise.
        width: cells of a line; None where lines are not cut (a file, a pipe).
    """

    colour: bool = False
    unicode: bool = True
    width: int | None = None

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str]) -> Look:
        """Return the look of a stream; ``NO_COLOR``, ``FORCE_COLOR`` and ``TERM=dumb`` are honoured."""
        tty = stream.isatty()
        colour = tty and environ.get("TERM", "") != "dumb"
        if environ.get("FORCE_COLOR"):
            colour = True
        if environ.get("NO_COLOR"):
            colour = False
        try:
            _SAMPLE.encode(getattr(stream, "encoding", None) or "ascii")
            unicode = True
        except (UnicodeEncodeError, LookupError):
            unicode = False
        width = max(20, shutil.get_terminal_size().columns) if tty else None
        return cls(colour=colour, unicode=unicode, width=width)

    def symbol(self, status: Status) -> str:
        """Return the one-cell sign of a status."""
        return (_UNICODE_SYMBOL if self.unicode else _ASCII_SYMBOL)[status]

    def spinner(self, tick: int) -> str:
        """Return the sign of something that runs; another one each tick."""
        frames = _UNICODE_SPINNER if self.unicode else _ASCII_SPINNER
        return frames[tick % len(frames)]

    def bar(self, share: float, cells: int) -> str:
        """Return a bar that is filled to *share* (0 to 1)."""
        filled = round(min(max(share, 0.0), 1.0) * cells)
        full, empty = ("█", "░") if self.unicode else ("#", "-")
        return full * filled + empty * (cells - filled)

    def sparkline(self, values: Sequence[float], most: float) -> str:
        """Return a line of bars, one for each value, the largest possible of which is *most*; empty without Unicode."""
        if not self.unicode or most <= 0:
            return ""
        return "".join(_BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in values)

    @property
    def rule(self) -> str:
        """The upright line between a step's name and what it wrote."""
        return "│" if self.unicode else "|"

    @property
    def dots(self) -> str:
        """What stands for text that was cut away."""
        return "…" if self.unicode else "..."

    def paint(self, text: str, style: str) -> str:
        """Return *text* in a style, as it is where there are no colours."""
        if not self.colour or not style or not text:
            return text
        return f"\x1b[{';'.join(_CODES[word] for word in style.split())}m{text}\x1b[0m"

    def text(self, line: Line) -> str:
        """Return a line as text to write, cut to the width, with colours where there are any."""
        return "".join(self.paint(*span) for span in self.cut(line)).rstrip()

    def cut(self, line: Line) -> Line:
        """Return a line that is no wider than the stream, free of control characters."""
        left = self.width
        fitting: Line = []
        for raw, style in line:
            text = self.readable(raw)
            if left is None:
                fitting.append((text, style))
                continue
            width = cells(text)
            if width > left:
                fitting.append((clip(text, left, self.dots), style))
                break
            fitting.append((text, style))
            left -= width
        return fitting

    def readable(self, text: str) -> str:
        """Return *text* as the stream can show it: no control characters, ASCII where it must be."""
        text = visible(text)
        return text if self.unicode else text.translate(_IN_ASCII).encode("ascii", "replace").decode("ascii")

    def readable_lines(self, text: str) -> str:
        """Return a text of several lines as the stream can show it, ending with a line end."""
        return "".join(self.readable(line) + "\n" for line in text.splitlines())


_IN_ASCII = str.maketrans({"…": "...", "│": "|", "→": "->", "\N{MULTIPLICATION SIGN}": "x", "·": ".", "≈": "~"})


def visible(text: str) -> str:
    """Return *text* without escape sequences and control characters; tabs become spaces."""
    if text.isprintable():  # the common case, one pass in C
        return text
    # Bytes that were no UTF-8 come as lone surrogates, which no stream can write.
    return _CONTROL.sub("", text.expandtabs(4)).encode("utf-8", "replace").decode("utf-8")


def cells(text: str) -> int:
    """Return how many cells of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(char) for char in text)


def _cells_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, width: int, dots: str = "…") -> str:
    """Return *text* in at most *width* cells, with *dots* where it was cut.

    >>> clip("prepare_features", 9)
    'prepare_…'
    """
    if cells(text) <= width:
        return text
    if width <= len(dots):
        return dots[:width]
    kept = []
    left = width - len(dots)
    for char in text:
        left -= _cells_of(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept) + dots


def pad(text: str, width: int) -> str:
    """Return *text* filled with spaces to *width* cells."""
    return text + " " * max(0, width - cells(text))


def plain_text(lines: Iterable[Line]) -> str:
    """Return lines without style, for tests and files."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)
