"""``pipes simulate``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.configuration_option import call_given, configuration_option
from mlflow_pipes.cli.critical_path import path_record, write_path
from mlflow_pipes.cli.output import stdout_look, write_json, write_lines, write_table
from mlflow_pipes.cli.program_command import ProgramCommand
from mlflow_pipes.cli.sizes_given import sizes_given
from mlflow_pipes.cli.standard_options import opened, reads_workspace
from mlflow_pipes.display.words import count, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.display.look import Line
    from mlflow_pipes.model.attempt import Capacity
    from mlflow_pipes.workspace.forecast import Forecast
    from mlflow_pipes.workspace.run_configuration import RunConfiguration

_HELP = """Tell how long a run would take on targets of other sizes.

Nothing runs. The scheduler is driven by a clock that does not wait, with the durations that earlier runs recorded.
A step that returns calls of further steps counts as one, for as long as it took with these.
FILE[:PIPELINE] and the pipeline's parameters are given as for pipes run.
"""


@click.command("simulate", cls=ProgramCommand, help=_HELP, short_help="Tell how long a run would take.")
@click.argument("file", metavar="FILE[:PIPELINE]")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME:WORKERS|NAME=SIZE",
    help="How large a target is: local:16, gpu=cpus:8,memory:64GiB; several sizes to compare: local:1,2,4,8. "
    "May be repeated.  [default: as configured]",
)
@configuration_option
@click.option("--cold", is_flag=True, help="As if nothing could be reused.")
@click.option(
    "--guess",
    "guess_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Duration of steps never seen.  [default: the mean of the others]",
)
@click.option("--all", "everything", is_flag=True, help="Show the whole critical path.")
@reads_workspace
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    configuration: RunConfiguration | None,
    targets: Sequence[str],
    cold: bool,
    guess_s: float | None,
    workspace: str | None,
    everything: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """Write the forecasts."""
    from mlflow_pipes.workspace.forecast import outlook

    sizes = sizes_given(targets)
    call = call_given(ctx, configuration)
    with opened(workspace) as home:
        ahead = outlook(call, workspace=home, configuration=configuration, cold=cold, guess_s=guess_s)
        forecasts = [(text, ahead.on(size)) for text, size in sizes]
    if as_json:
        write_json({"pipeline": ahead.graph.name, "forecasts": [_record(forecast) for _, forecast in forecasts]})
    elif len(forecasts) == 1:
        _write(forecasts[0][1], everything=everything)
    else:
        _compare(forecasts)


def _write(forecast: Forecast, *, everything: bool) -> None:
    found = forecast.schedule
    head: Line = [(forecast.pipeline, "bold"), (f" would take about {duration(forecast.makespan_s)}", "")]
    write_lines([head, *_facts(forecast), []])
    write_table(
        ["target", "holds", "steps", "work", "used"],
        [
            [(use.target, ""), (_holds(use.capacity), ""), (f"{use.steps:,}", ""), (duration(use.work_s), ""),
             (f"{use.utilisation:.0%}", "")]
            for use in found.targets
        ],
        right=frozenset({2, 3, 4}),
    )  # fmt: skip
    write_path(found.path, forecast.makespan_s, 0.0, everything=everything)


def _facts(forecast: Forecast) -> list[Line]:
    found, sources = forecast.schedule, forecast.sources
    runs = sum(sources.values())
    perhaps = f" ({forecast.perhaps:,} of them only if outputs above them change)" if forecast.perhaps else ""
    known = [
        (f"{sources.get('node', 0):,} recorded", sources.get("node")),
        (f"{sources.get('step', 0):,} as other calls of the step", sources.get("step")),
        (f"{sources.get('guess', 0):,} guessed at {duration(forecast.guess_s)}", sources.get("guess")),
    ]
    facts = {
        "steps": f"{runs:,} run{perhaps}, {forecast.reused:,} reused",
        "durations": ", ".join(text for text, amount in known if amount),
        "at best": f"{duration(forecast.at_best_s)}: the longest chain of steps takes "
        f"{duration(found.longest_path_s)}, the work on the busiest target {duration(found.work_bound_s)}",
        "but": f"the pipeline's timeout of {duration(forecast.timeout_s)} would stop it" if forecast.timeout_s else "",
    }
    return [[(f"  {name:<12}", "dim"), (text, "")] for name, text in facts.items() if text]


def _compare(forecasts: Sequence[tuple[str, Forecast]]) -> None:
    first = forecasts[0][1]
    write_lines(
        [[(first.pipeline, "bold"), (f": {count(len(forecasts), 'size')} compared", "")], *_facts(first)[:2], []]
    )
    rows = []
    for text, forecast in forecasts:
        found = forecast.schedule
        busiest = max(found.targets, key=lambda use: use.utilisation)
        faster = first.makespan_s / forecast.makespan_s if forecast.makespan_s else 1.0
        limit = "longest chain" if found.longest_path_s >= found.work_bound_s else f"work on {busiest.target}"
        rows.append(
            [
                (text, ""),
                (duration(forecast.makespan_s), "bold"),
                (f"{faster:.1f} x", ""),
                (f"{busiest.utilisation:.0%}", ""),
                (duration(forecast.at_best_s), ""),
                (limit, "dim"),
            ]
        )
    write_table(
        ["targets", "takes", "faster", "used", "at best", "which is set by"], rows, right=frozenset({1, 2, 3, 4})
    )
    if first.reused or first.perhaps:
        write_lines([[], [(f"  {stdout_look().dots} --cold: as if nothing could be reused", "dim")]])


def _holds(capacity: Capacity) -> str:
    pieces = [count(capacity.slots, "worker")]
    if math.isfinite(capacity.cpus) and capacity.cpus != capacity.slots:
        pieces.append(f"{capacity.cpus:g} cpus")
    if capacity.memory_bytes:
        pieces.append(f"{capacity.memory_bytes / 2**30:.1f} GiB")
    return ", ".join(pieces)


def _record(forecast: Forecast) -> dict[str, Any]:
    found = forecast.schedule
    return {
        "makespan_s": forecast.makespan_s,
        "at_best_s": forecast.at_best_s,
        "longest_path_s": found.longest_path_s,
        "work_bound_s": found.work_bound_s,
        "default_target": forecast.default_target,
        "reused": forecast.reused,
        "perhaps": forecast.perhaps,
        "durations": {source: forecast.sources.get(source, 0) for source in ("node", "step", "guess")},
        "guess_s": forecast.guess_s,
        "timeout_s": forecast.timeout_s,
        "targets": [
            {
                "name": use.target,
                "workers": use.capacity.slots,
                "cpus": use.capacity.cpus,
                "memory_bytes": use.capacity.memory_bytes,
                "steps": use.steps,
                "work_s": use.work_s,
                "utilisation": use.utilisation,
            }
            for use in found.targets
        ],
        "critical_path": path_record(found.path, 0.0),
        "steps": [
            {"node": step.node, "target": step.target or None, "start_s": step.start, "end_s": step.end}
            for step in found.steps
        ],
    }
