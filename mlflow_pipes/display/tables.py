"""Text in columns. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_pipes.display.look import Line, Look, Span, cells, clip, pad

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "
NARROWEST = 8  # cells; a cut column is at least that wide


def table_lines(
    look: Look, header: Sequence[str], rows: Sequence[Sequence[Span]], *, right: frozenset[int] = frozenset()
) -> list[Line]:
    """Return a header and rows as aligned lines no wider than *look*; the widest columns are cut first.

    Args:
        look: says the width and the characters.
        header: column titles; an empty sequence for a table without header.
        rows: cells with their styles.
        right: positions of columns that are aligned to the right (numbers).
    """
    shown = [[(look.readable(text), style) for text, style in row] for row in rows]
    titles: list[Span] = [(look.readable(title), "dim") for title in header]
    everything = ([titles] if titles else []) + shown
    if not everything:
        return []
    columns = max(len(row) for row in everything)
    widths = [max((cells(row[i][0]) for row in everything if i < len(row)), default=0) for i in range(columns)]
    if look.width is not None:
        widths = fit(widths, look.width - len(GAP) * (columns - 1))
    lines: list[Line] = []
    for row in everything:
        line: Line = []
        for index, (text, style) in enumerate(row):
            cut = clip(text, widths[index], look.dots)
            if index in right:
                cut = " " * (widths[index] - cells(cut)) + cut
            elif index < len(row) - 1:
                cut = pad(cut, widths[index])
            line += [(GAP if index else "", ""), (cut, style)]
        lines.append(line)
    return lines


def fit(widths: Sequence[int], room: int) -> list[int]:
    """Return column widths that sum to at most *room*, taken from the widest, none below ``NARROWEST``.

    >>> fit([4, 30, 40], 50)
    [4, 23, 23]
    """
    fitted = list(widths)
    while sum(fitted) > room:
        widest = max(fitted)
        if widest <= NARROWEST:
            break
        fitted[fitted.index(widest)] -= 1
    return fitted
