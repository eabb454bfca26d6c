"""A critical path, for people and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.cli.output import stdout_look, write_lines, write_table
from mlflow_pipes.display.words import count, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.display.look import Span
    from mlflow_pipes.scheduling.critical_path import Link

SHOWN_LINKS = 20
_WORTH_TELLING_S = 0.001
_WORTH_SUMMING_S = 0.05


def write_path(path: Sequence[Link], whole_s: float, begin: float, *, everything: bool) -> None:
    """Write the links that took or waited for any time, first to last; the longest where there are many."""
    told = [link for link in path if link.took_s + link.waited_s >= _WORTH_TELLING_S]
    if not told:
        return
    took = sum(link.took_s for link in path)
    share = (
        f": {count(len(told), 'step')} that took {duration(took)}, {took / whole_s:.0%} of the time" if whole_s else ""
    )
    write_lines([[], [("critical path", "bold"), (share, "")]])
    shown = told if everything else _longest(told)
    rows: list[list[Span]] = [
        [
            (link.node, ""),
            (_since(link.start - begin), "dim"),
            (duration(link.waited_s) if link.waited_s >= _WORTH_TELLING_S else "", "yellow"),
            (duration(link.took_s), ""),
            (f"{link.took_s / whole_s:.0%}" if whole_s else "", ""),
            (because(link), "dim"),
        ]
        for link in shown
    ]
    write_table(["step", "started", "waited", "took", "share", "because"], rows, right=frozenset({1, 2, 3, 4}))
    if len(shown) < len(told):
        write_lines([[(f"{stdout_look().dots} and {len(told) - len(shown):,} shorter ones; --all shows them", "dim")]])


def because(link: Link) -> str:
    """Return in words what a link waited for."""
    needs = f"needs {link.after}" if link.after else "first"
    if link.because == "key":
        return f"{needs}; then waited for who was computing the same"
    return f"waited for room, until {link.after} ended" if link.because == "room" else needs


def path_record(path: Sequence[Link], begin: float) -> list[dict[str, Any]]:
    """Return a path as JSON-like data, in seconds from the run's beginning."""
    return [
        {
            "node": link.node,
            "start_s": link.start - begin,
            "end_s": link.end - begin,
            "took_s": link.took_s,
            "waited_s": link.waited_s,
            "because": link.because,
            "after": link.after,
        }
        for link in path
    ]


def _since(seconds: float) -> str:
    return f"+{duration(seconds)}" if seconds >= _WORTH_TELLING_S else "at once"


def _longest(links: Sequence[Link]) -> list[Link]:
    ranked = sorted(range(len(links)), key=lambda index: -(links[index].took_s + links[index].waited_s))
    return [links[index] for index in sorted(ranked[:SHOWN_LINKS])]
