"""``pipes diff``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.changes import change_lines, change_record
from mlflow_pipes.cli.output import stdout_look, write_json, write_lines, write_table
from mlflow_pipes.cli.records import run_head
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.cli.waits import listed
from mlflow_pipes.display.look import STATUS_STYLE, Line, Span
from mlflow_pipes.display.words import duration, short_id
from mlflow_pipes.wording import clipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.workspace import Run
    from mlflow_pipes.workspace.difference import RunDifference
    from mlflow_pipes.workspace.step_changes import StepDifference, StepFacts, ValueChange

SHOWN = 20
_FATES = {
    "new": ("new", "green"),
    "gone": ("gone", "yellow"),
    "changed": ("changed", "yellow"),
    "unstable": ("unstable", "red"),
    "unknown": ("not reached", "dim"),
    "same": ("ran again, the same", "dim"),
    "reused": ("reused", "blue"),
}
_TOLD = ("changed", "unstable", "new", "gone", "unknown")


@click.command(
    "diff",
    help="Compare two runs: what became of each step and why, parameters, outputs, metrics, durations, environment. "
    "With one RUN, that and the latest; with none, the latest and the run of its pipeline before.",
    short_help="Compare two runs.",
)
@click.argument("before", metavar="[RUN]", required=False)
@click.argument("after", metavar="[RUN]", default="latest")
@click.option("--all", "everything", is_flag=True, help=f"Show all of every list that has over {SHOWN}.")
@reads_workspace
def command(*, before: str | None, after: str, workspace: str | None, everything: bool, as_json: bool) -> None:
    """Write what differs."""
    from mlflow_pipes.workspace.difference import diff

    with existing(workspace) as home:
        found = diff(before, after, workspace=home)
        if as_json:
            write_json(_record(found))
        else:
            _write(found, None if everything else SHOWN)


def _write(found: RunDifference, shown: int | None) -> None:
    write_lines([_head("-", found.before), _head("+", found.after)])
    _write_values("parameters", found.parameters, shown)
    _write_values("tags", found.tags, shown)
    _write_values("run", found.facts, shown)
    _write_values("environment", found.environment, shown)
    _write_steps(found, shown)
    same = f", {found.metrics_same:,} the same" if found.metrics_same else ""
    _write_values(f"metrics: {len(found.metrics):,} differ{same}" if found.metrics else "", found.metrics, shown)
    slower = [one for one in found.steps if one.duration_changed_s is not None]
    slower.sort(key=lambda one: -abs(one.duration_changed_s or 0.0))
    _write_rows("durations", ["step", "before", "after", "change"], [_duration_row(one) for one in slower], shown)


def _head(sign: str, run: Run) -> Line:
    took = f" in {duration(run.duration_s)}" if run.duration_s is not None else ""
    return [
        (f"{sign} ", "dim"),
        (short_id(run.id), "bold"),
        (f" {run.pipeline} ", ""),
        (run.status.value, STATUS_STYLE[run.status]),
        (f"{took}, {run.started_at.astimezone():%Y-%m-%d %H:%M:%S}", "dim"),
    ]


def _write_steps(found: RunDifference, shown: int | None) -> None:
    fates: Counter[str] = Counter(step.fate for step in found.steps)
    told = ", ".join(f"{fates[fate]:,} {words}" for fate, (words, _) in _FATES.items() if fates[fate])
    write_lines([[], [("steps", "bold"), (f": {told or 'none'}", "")]])
    listed = [one for one in found.steps if one.fate in _TOLD or one.status_changed]
    for step in listed[:shown]:
        write_lines(_step_lines(step))
    if shown is not None and len(listed) > shown:
        write_lines([_more(len(listed) - shown)])


def _step_lines(step: StepDifference) -> list[Line]:
    words, style = _FATES[step.fate]
    line: Line = [("  ", ""), (step.node, "bold"), (f" {words}", style)]
    before, after = step.before, step.after
    if step.fate == "unstable":
        line.append((": same code and inputs, another output; the step is no function of its inputs", ""))
    elif step.fate == "changed" and not step.output_changed and before and after and before.output and after.output:
        line.append((", but its output came out the same", "dim"))
    if step.status_changed and before and after:
        line.append((f" ({before.status.value}, then {after.status.value})", "red"))
    elif step.fate == "unknown" and before and after:
        line.append((f" ({before.status.value}, then {after.status.value})", "dim"))
    code = [change for change in step.changes if change.kind != "input"]
    lines = [line, *change_lines(code)]
    for change in step.changes:
        if change.kind == "input" and before and after:
            told: Line = [("    input ", "dim"), (change.name, "bold"), (f" {change.what}", "yellow")]
            lines.append([*told, _source(step, change.name)])
    return lines


def _source(step: StepDifference, name: str) -> Span:
    """Return where the new input came from: the step above, or the values themselves."""
    if makers := step.came_from.get(name):
        return (f": the output of {listed(makers)}", "")
    was = step.before.parameters.get(name) if step.before else None
    is_ = step.after.parameters.get(name) if step.after else None
    return (f": {_text(was)} → {_text(is_)}" if was is not None or is_ is not None else "", "")


def _write_values(title: str, values: Sequence[ValueChange], shown: int | None) -> None:
    rows: list[list[Span]] = [
        [(value.name, ""), (_text(value.before), "red"), (_text(value.after), "green"), (_change(value), "dim")]
        for value in values
    ]
    _write_rows(title, ["", "before", "after", ""], rows, shown)


def _write_rows(title: str, header: Sequence[str], rows: Sequence[Sequence[Span]], shown: int | None) -> None:
    if not rows:
        return
    write_lines([[], [(title, "bold")]])
    write_table(header, [[("  " + row[0][0], row[0][1]), *row[1:]] for row in rows[:shown]])
    if shown is not None and len(rows) > shown:
        write_lines([_more(len(rows) - shown)])


def _duration_row(step: StepDifference) -> list[Span]:
    assert step.before is not None
    assert step.after is not None
    was, took, more = step.before.duration_s or 0.0, step.after.duration_s or 0.0, step.duration_changed_s or 0.0
    sign, style = ("+", "red") if more > 0 else ("-", "green")
    return [(step.node, ""), (duration(was), ""), (duration(took), ""), (f"{sign}{duration(abs(more))}", style)]


def _more(amount: int) -> Line:
    return [(f"  {stdout_look().dots} and {amount:,} more; --all shows them", "dim")]


def _text(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else clipped(value, 80)


def _change(value: ValueChange) -> str:
    before, after = value.before, value.after
    return f"{after - before:+.4g}" if isinstance(before, float) and isinstance(after, float) else ""


def _record(found: RunDifference) -> dict[str, Any]:
    return {
        "before": run_head(found.before),
        "after": run_head(found.after),
        "parameters": found.parameters,
        "tags": found.tags,
        "facts": found.facts,
        "environment": found.environment,
        "steps": [_step_record(step) for step in found.steps],
        "metrics": found.metrics,
        "metrics_same": found.metrics_same,
    }


def _step_record(step: StepDifference) -> dict[str, Any]:
    return {
        "node": step.node,
        "fate": step.fate,
        "changes": [
            {
                **change_record(change),
                "came_from": list(step.came_from.get(change.name, ())) if change.kind == "input" else [],
            }
            for change in step.changes
        ],
        "output_changed": step.output_changed,
        "status_changed": step.status_changed,
        "duration_changed_s": step.duration_changed_s,
        "before": _facts_record(step.before),
        "after": _facts_record(step.after),
    }


def _facts_record(facts: StepFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "status": facts.status.value,
        "key": facts.key,
        "output": facts.output or None,
        "duration_s": facts.duration_s,
        "parameters": facts.parameters,
    }
