"""``pipes explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlflow_pipes.cli.changes import change_lines, change_record
from mlflow_pipes.cli.output import write_json, write_lines
from mlflow_pipes.cli.standard_options import existing, reads_workspace
from mlflow_pipes.cli.waits import wait_record, wait_text
from mlflow_pipes.display.look import STATUS_STYLE, Line
from mlflow_pipes.display.words import duration, short_id

if TYPE_CHECKING:
    from mlflow_pipes.workspace import StepRun
    from mlflow_pipes.workspace.explanation import Explanation

_WORTH_TELLING_S = 0.001


@click.command(
    "explain",
    help="Say why a step ran, naming what changed since the last run in which it ended well; where it ran, for what it "
    "waited, why it failed, and whether the run's length hung on it. Also of a run that is under way. "
    "Without RUN: the latest.",
    short_help="Say why a step ran, and for what it waited.",
)
@click.argument("words", metavar="[RUN] STEP", nargs=-1, required=True)
@reads_workspace
def command(*, words: tuple[str, ...], workspace: str | None, as_json: bool) -> None:
    """Write why."""
    from mlflow_pipes.workspace.explanation import explain

    if len(words) > 2:
        raise click.UsageError(f"a RUN and a STEP are two words, not {len(words)}; quote a step's name with spaces")
    run, step = words if len(words) == 2 else ("latest", words[0])
    with existing(workspace) as home:
        explanation = explain(step, run=run, workspace=home)
        if as_json:
            write_json(_record(explanation))
        else:
            write_lines(_lines(explanation))


def _lines(explanation: Explanation) -> list[Line]:
    step = explanation.step
    lines: list[Line] = [
        [
            (step.node, "bold"),
            (f" in run {short_id(step.run_id)} ", "dim"),
            (step.status.value, STATUS_STYLE[step.status]),
            (f": {explanation.reason}", ""),
        ]
    ]
    if explanation.before:
        lines.append([(f"  compared with run {short_id(explanation.before)}:", "dim")])
    lines += change_lines(explanation.changes)
    for name, texts in _facts(explanation).items():
        for index, text in enumerate(texts):
            lines.append([(f"  {'' if index else name:<10}", "dim"), (text, "")])
    return lines


def _facts(explanation: Explanation) -> dict[str, list[str]]:
    step, link = explanation.step, explanation.critical
    facts = {
        "ran": [_ran(explanation)] if explanation.placement else [],
        "saved": [f"{duration(explanation.saved_s)}, which it took then"] if explanation.saved_s is not None else [],
        "waited": [wait_text(wait, step, explanation.now) for wait in explanation.waits],
        "failed": _failures(step),
        "critical": [],
    }
    if link is not None and link.took_s >= _WORTH_TELLING_S:
        so_far = " so far" if explanation.under_way else ""
        facts["critical"] = [f"it is on the critical path, with {explanation.share:.0%} of the run's time{so_far}"]
    elif step.started_at is not None and not step.reused and not explanation.under_way:
        facts["critical"] = ["it is not on the critical path: the run took no longer for it"]
    return facts


def _ran(explanation: Explanation) -> str:
    step = explanation.step
    pieces = [explanation.placement]
    if step.worker:
        pieces.append(f"by worker {step.worker}")
    if step.duration_s is not None:
        pieces.append(f"for {duration(step.duration_s)}")
    if step.attempts > 1:
        pieces.append(f"at attempt {step.attempts}" if step.status.good else f"after {step.attempts} attempts")
    return ", ".join(pieces)


def _failures(step: StepRun) -> list[str]:
    failed = [attempt for attempt in step.history if attempt.failure is not None]
    return [
        f"attempt {attempt.number} after {duration(attempt.ended_at - attempt.started_at)} "
        f"({attempt.failure.kind.value}): {attempt.failure.message}"
        for attempt in failed
        if attempt.failure is not None
    ]


def _record(explanation: Explanation) -> dict[str, object]:
    step, link = explanation.step, explanation.critical
    return {
        "run": step.run_id,
        "node": step.node,
        "status": step.status.value,
        "reason": explanation.reason,
        "before": explanation.before,
        "changes": [change_record(change) for change in explanation.changes],
        "target": step.target or None,
        "placement": explanation.placement,
        "waits": [wait_record(wait, explanation.now) for wait in explanation.waits],
        "failures": [
            {
                "attempt": attempt.number,
                "kind": attempt.failure.kind.value,
                "message": attempt.failure.message,
                "after_s": attempt.ended_at - attempt.started_at,
            }
            for attempt in step.history
            if attempt.failure is not None
        ],
        "critical": link is not None,
        "share": explanation.share,
        "saved_s": explanation.saved_s,
    }
