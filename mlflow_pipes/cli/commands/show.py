"""``pipes show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.critical_path import path_record, write_path
from mlflow_pipes.cli.moments import local_time, utc_now
from mlflow_pipes.cli.one_step import step_lines, usage_record
from mlflow_pipes.cli.output import stdout_look, write_json, write_lines, write_table
from mlflow_pipes.cli.records import describe, metrics_by_node, run_record
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.display.failure import failure_lines, quoted
from mlflow_pipes.display.lines import indent_of
from mlflow_pipes.display.look import STATUS_STYLE, Line, Span
from mlflow_pipes.display.summary import FULL_FAILURES, metric_lines
from mlflow_pipes.display.words import duration, short_id
from mlflow_pipes.model.run import Status

if TYPE_CHECKING:
    from mlflow_pipes.workspace import Run, StepRun

SHOWN_STEPS = 100
SHOWN_WARNINGS = 10


@click.command(
    "show",
    help="Show a run: its steps, durations, metrics and outputs; of one step also what it used of its machine.",
)
@click.argument("run", default="latest", metavar="[RUN]")
@click.argument("step", required=False, metavar="[STEP]")
@click.option("--all", "everything", is_flag=True, help=f"Show every step, also when there are over {SHOWN_STEPS}.")
@click.option("--critical-path", "path", is_flag=True, help="Show what made the run as long as it is, step by step.")
@reads_workspace
def command(*, run: str, step: str | None, workspace: str | None, everything: bool, path: bool, as_json: bool) -> None:
    """Write one run, or one step of it."""
    if step is not None and path:
        raise click.UsageError("--critical-path is of a whole run: leave STEP out")
    with existing(workspace) as home:
        found = home.runs.get(run)
        if step is not None:
            part = found.part(step)
            if as_json:
                write_json(usage_record(part))
            else:
                write_lines(step_lines(part))
        elif as_json:
            begin = found.started_at.timestamp()
            write_json(run_record(found) | ({"critical_path": path_record(found.critical_path, begin)} if path else {}))
        elif path:
            _write_critical_path(found, everything=everything)
        else:
            _write(found, everything=everything)


def _write_critical_path(run: Run, *, everything: bool) -> None:
    write_lines(_head(run)[:1])
    links, begin = run.critical_path, run.started_at.timestamp()
    if not links:
        write_lines([[("nothing of it has run", "")]])
        return
    write_path(links, links[-1].end - begin, begin, everything=everything)


def _write(run: Run, *, everything: bool) -> None:
    look = stdout_look()
    write_lines([*_head(run), []])
    children = run.children
    causes = run.root_causes
    tree = _tree(run)
    shown = tree if everything else _most_telling(tree, causes)
    rows = [_row(child, depth, look.symbol(child.status)) for child, depth in shown]
    write_table(["step", "status", "took", "output"], rows)
    if len(shown) < len(children):
        write_lines([[(f"{look.dots} and {len(children) - len(shown):,} more; --all shows them", "dim")]])
    metrics = metrics_by_node(run.metrics, [child.node for child in children])
    lines = metric_lines({child.node: metrics[child.node] for child in children if child.node in metrics}, look)
    write_lines([[], *lines] if lines else [])
    write_lines(_warning_lines(run))
    for step in causes[:FULL_FAILURES]:
        write_lines(
            [
                [],
                [(f"{look.symbol(Status.FAILED)} {step.node}", "bold red"), (" failed", "red")],
                *failure_lines(step.failure, step.reason),
                [("    whole traceback and log: ", "dim"), (f"pipes logs {short_id(run.id)} {quoted(step.node)}", "")],
            ]
        )


def _warning_lines(run: Run) -> list[Line]:
    warnings = run.warnings
    if not warnings:
        return []
    lines: list[Line] = [[(f"warning: {node}: ", "yellow"), (text, "")] for node, text in warnings[:SHOWN_WARNINGS]]
    if len(warnings) > SHOWN_WARNINGS:
        lines.append([(f"{stdout_look().dots} and {len(warnings) - SHOWN_WARNINGS:,} more warnings", "dim")])
    return [[], *lines]


def _head(run: Run) -> list[Line]:
    status = run.status
    took = run.duration_s if run.duration_s is not None else (utc_now() - run.started_at).total_seconds()
    lines: list[Line] = [
        [
            (f"{stdout_look().symbol(status)} ", STATUS_STYLE[status]),
            (run.pipeline, "bold"),
            (f" {status.value}", STATUS_STYLE[status]),
            (f" {'in' if status.ended else 'for'} {duration(took)}", ""),
        ]
    ]
    facts = {
        "run": run.id,
        "started": f"{local_time(run.started_at)} by {run.user} on {run.host}, target {run.target}",
        "parameters": ", ".join(f"{name}={text}" for name, text in run.parameters.items()),
        "tags": ", ".join(f"{key}={value}" for key, value in run.tags.items()),
        "resumes": f"run {run.resumed_from}" if run.resumed_from else "",
        "source": _source(run),
        "message": run.message if not status.good else "",
        "output": describe(run.artifact) or "",
    }
    lines += [[(f"  {name:<12}", "dim"), (text, "")] for name, text in facts.items() if text]
    return lines


def _source(run: Run) -> str:
    if not run.source.commit:
        return run.file
    changed = " with uncommitted changes" if run.source.dirty else ""
    return f"{run.file} at {run.source.commit[:10]} ({run.source.branch}){changed}"


def _row(step: StepRun, depth: int, symbol: str) -> list[Span]:
    status = step.status
    style = STATUS_STYLE[status]
    label = step.node[max(step.node.rfind(step.name), 0) :] if depth else step.node
    words = status.value
    if step.attempts > 1:
        words += f" at attempt {step.attempts}" if status is Status.SUCCEEDED else f" after {step.attempts} attempts"
    took = "" if step.duration_s is None or step.reused else duration(step.duration_s)
    told = describe(step.artifact) or (step.reason.partition("\n")[0] if not status.good else "")
    return [(f"{indent_of(depth)}{symbol} {label}", ""), (words, style), (took, ""), (told, "dim")]


def _tree(run: Run) -> list[tuple[StepRun, int]]:
    """Return the steps and sub-pipelines, each below what it stands in, with how deep that is.

    A sub-pipeline stands where its first step was declared.
    """
    inside: dict[str, list[StepRun]] = {}
    first = _first_positions(run.children)
    for child in sorted(run.children, key=lambda child: first[child.id]):
        inside.setdefault(child.parent_id, []).append(child)
    found: list[tuple[StepRun, int]] = []
    waiting = [(child, 0) for child in reversed(inside.get(run.id, []))]
    while waiting:
        child, depth = waiting.pop()
        found.append((child, depth))
        waiting += [(inner, depth + 1) for inner in reversed(inside.get(child.id, []))]
    return found


def _first_positions(children: tuple[StepRun, ...]) -> dict[str, int]:
    """Return by id where each was declared, or the first step in it."""
    groups = {child.id: child for child in children if child.kind != "step"}
    first = {child.id: child.position for child in children if child.kind == "step"}
    for child in children:
        around = groups.get(child.parent_id) if child.kind == "step" else None
        while around is not None and around.id not in first:
            first[around.id] = child.position
            around = groups.get(around.parent_id)
    return {child.id: first.get(child.id, child.position) for child in children}


def _most_telling(tree: list[tuple[StepRun, int]], causes: tuple[StepRun, ...]) -> list[tuple[StepRun, int]]:
    """Return at most ``SHOWN_STEPS``, in the same order: root causes of failures first, then what is least deep."""
    if len(tree) <= SHOWN_STEPS:
        return tree
    blamed = {step.id for step in causes[: SHOWN_STEPS // 2]}
    ranked = sorted(range(len(tree)), key=lambda index: (tree[index][0].id not in blamed, tree[index][1]))
    return [tree[index] for index in sorted(ranked[:SHOWN_STEPS])]
