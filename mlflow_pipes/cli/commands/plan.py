"""``pipes plan``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.changes import change_lines, change_record
from mlflow_pipes.cli.configuration_option import call_given, configuration_option
from mlflow_pipes.cli.output import stdout_look, write_json, write_lines, write_table
from mlflow_pipes.cli.program_command import ProgramCommand
from mlflow_pipes.cli.standard_options import opened, reads_workspace
from mlflow_pipes.display.words import count, duration

if TYPE_CHECKING:
    from mlflow_pipes.display.look import Line, Span
    from mlflow_pipes.workspace.planning import Plan, PlannedStep
    from mlflow_pipes.workspace.run_configuration import RunConfiguration

SHOWN_STEPS = 100
_STYLE = {"reuse": "blue", "run": "green", "maybe-run": "yellow", "always-run": "cyan"}
_WORDS = {"reuse": "reuse", "run": "run", "maybe-run": "may run", "always-run": "always runs"}
_HELP = """Show what would run, and why. Nothing runs and nothing is stored.

FILE[:PIPELINE] and the pipeline's parameters are given as for pipes run.
"""


@click.command("plan", cls=ProgramCommand, help=_HELP, short_help="Show what would run, and why.")
@click.argument("file", metavar="FILE[:PIPELINE]")
@configuration_option
@click.option("--target", metavar="NAME", help="Compute target for steps that name none, as for pipes run.")
@click.option("--all", "everything", is_flag=True, help=f"Show every step, also when there are over {SHOWN_STEPS}.")
@reads_workspace
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    configuration: RunConfiguration | None,
    target: str | None,
    workspace: str | None,
    everything: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """Write the plan."""
    from mlflow_pipes.workspace.planning import plan

    call = call_given(ctx, configuration)
    with opened(workspace) as home:
        planned = plan(call, workspace=home, target=target, configuration=configuration)
    if as_json:
        write_json(_record(planned))
    else:
        _write(planned, everything=everything)


def _write(plan: Plan, *, everything: bool) -> None:
    steps = plan.steps if everything else _most_telling(plan.steps)
    placed = len({step.target for step in plan.steps}) > 1
    rows: list[list[Span]] = [
        [
            (step.node, ""),
            (_WORDS[step.action], _STYLE[step.action]),
            *([(step.target, "dim" if step.action == "reuse" else "")] if placed else []),
            (duration(step.estimate_s) if step.estimate_s is not None and step.action != "reuse" else "", "dim"),
            (step.reason, ""),
        ]
        for step in steps
    ]
    write_table(["step", "what", *(["where"] if placed else []), "takes about", "why"], rows)
    if len(steps) < len(plan.steps):
        write_lines([[(f"{stdout_look().dots} and {len(plan.steps) - len(steps):,} more; --all shows them", "dim")]])
    counts: Counter[str] = Counter(step.action for step in plan.steps)
    told = ", ".join(f"{counts[action]:,} {word}" for action, word in _WORDS.items() if counts[action])
    time = f"; about {duration(plan.estimate_s)} of work" if plan.estimate_s else ""
    closing: list[Line] = [[], [(plan.pipeline, "bold"), (f": {count(len(plan.steps), 'step')}: {told}{time}", "")]]
    write_lines([*_changes(plan), *_builds(plan), *closing])


def _builds(plan: Plan) -> list[Line]:
    """Return what would be built first."""
    lines: list[Line] = []
    for one in plan.builds:
        users = f"{', '.join(one.nodes[:3])}{' and others' * (len(one.nodes) > 3)}"
        told = f" ({one.kind}, {count(one.packages, 'package')}) for {users}"
        lines.append([("  environment ", "dim"), (one.name, "bold"), (told, "")])
    return [[], [("would be built first:", "bold")], *lines] if lines else []


def _changes(plan: Plan) -> list[Line]:
    """Return what changed, each change once: many steps may reach the same function."""
    seen: dict[tuple[str, str, str, str], PlannedStep] = {}
    lines: list[Line] = []
    for step in plan.steps:
        for change in step.changes:
            key = (change.kind, change.name, change.before, change.after)
            if change.kind == "input" or key in seen:
                continue
            seen[key] = step
            lines += change_lines([change], indent="  ")
    return [[], [("changed since the last run:", "bold")], *lines] if lines else []


def _most_telling(steps: tuple[PlannedStep, ...]) -> list[PlannedStep]:
    """Return at most ``SHOWN_STEPS``, what runs before what is reused, in the order declared."""
    if len(steps) <= SHOWN_STEPS:
        return list(steps)
    ranked = sorted(range(len(steps)), key=lambda index: steps[index].action == "reuse")
    return [steps[index] for index in sorted(ranked[:SHOWN_STEPS])]


def _record(plan: Plan) -> dict[str, Any]:
    return {
        "pipeline": plan.pipeline,
        "estimate_s": plan.estimate_s,
        "builds": [
            {"name": one.name, "kind": one.kind, "packages": one.packages, "nodes": list(one.nodes)}
            for one in plan.builds
        ],
        "steps": [
            {
                "node": step.node,
                "name": step.name,
                "action": step.action,
                "reason": step.reason,
                "estimate_s": step.estimate_s,
                "target": step.target,
                "target_named_by": step.target_named_by,
                "changes": [change_record(change) for change in step.changes],
            }
            for step in plan.steps
        ],
    }
