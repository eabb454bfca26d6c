"""What differs between two runs of a step, for people and for scripts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.workspace.explain import changes_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_pipes.display.look import Line
    from mlflow_pipes.workspace.explain import Change


def change_lines(changes: Iterable[Change], indent: str = "    ") -> list[Line]:
    """Return a line for each change, and how the step's code reaches it."""
    lines: list[Line] = []
    for change in changes:
        if change.kind == "environment" and not change.versions:
            lines.append([(indent, ""), (changes_text((change,)), "yellow")])
            continue
        versions = f" {change.versions}" if change.versions else ""
        what = (f" {change.what}{versions}", "yellow")
        lines.append([(indent, ""), (f"{change.kind} ", "dim"), (change.name, "bold"), what])
        way = _way(change)
        if len(way) > 1:
            lines.append([(f"{indent}  reached by ", "dim"), (" → ".join(way), "")])
    return lines


def change_record(change: Change) -> dict[str, Any]:
    """Return a change as JSON-like data."""
    return {
        "kind": change.kind,
        "name": change.name,
        "what": change.what,
        "via": list(change.via),
        "before": change.before,
        "after": change.after,
    }


def _way(change: Change) -> list[str]:
    way = list(change.via)
    return way if not way or way[-1] == change.name else [*way, change.name]
