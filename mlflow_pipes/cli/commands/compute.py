"""``pipes compute``."""

from __future__ import annotations

import math
import tomllib
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.configuration_option import configuration_option
from mlflow_pipes.cli.moments import ago, utc_now
from mlflow_pipes.cli.output import stdout_look, write_json, write_lines, write_table
from mlflow_pipes.cli.standard_options import opened, reads_workspace, workspace_option
from mlflow_pipes.display.words import count, duration, size
from mlflow_pipes.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.display.look import Line
    from mlflow_pipes.model.attempt import Capacity
    from mlflow_pipes.workspace.compute_targets import Target
    from mlflow_pipes.workspace.probe import ProbeReport
    from mlflow_pipes.workspace.run_configuration import RunConfiguration
    from mlflow_pipes.workspace.workspace import Workspace

_STYLE = {"on": "green", "off": "dim"}
_SHOWN_PACKAGES = 8


@click.group(
    "compute",
    help="List, attach, test, start and stop compute targets.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List them when nothing else is asked for."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_targets, configuration=None, workspace=None, as_json=False)


@command.command("list", help="List the compute targets of the workspace.")
@configuration_option
@reads_workspace
def list_targets(*, configuration: RunConfiguration | None, workspace: str | None, as_json: bool) -> None:
    """Write all targets."""
    with _opened(workspace, configuration) as home:
        targets = home.compute.list()
    if as_json:
        write_json(targets)
        return
    write_table(
        ["target", "type", "status", "holds", "running", "defined"],
        [
            [
                (f"{one.name} (default)" if one.is_default else one.name, "bold"),
                (one.type, ""),
                (one.status, _STYLE.get(one.status, "")),
                (_holds(one.capacity), ""),
                (_busy(one), "green" if one.steps else "dim"),
                (one.source, "dim"),
            ]
            for one in targets
        ],
    )


@command.command("show", help="Show a compute target: status, capacity, running steps.")
@click.argument("name")
@configuration_option
@reads_workspace
def show(*, name: str, configuration: RunConfiguration | None, workspace: str | None, as_json: bool) -> None:
    """Write one target."""
    with _opened(workspace, configuration) as home:
        target = home.compute.show(name)
    _write(target, as_json=as_json)


_ATTACH = """Add a compute target to the workspace, for all runs that come.

It is kept in the workspace's folder. What pipes.toml says of a name comes first.
"""


@command.command("attach", help=_ATTACH, short_help="Add a compute target to the workspace.")
@click.argument("name")
@click.option("--type", "type_", metavar="TYPE", help="Kind of target.  [default: the name]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key as in [targets.NAME] of pipes.toml, its value as TOML or plain text; may be repeated.",
)
@reads_workspace
def attach(*, name: str, type_: str | None, settings: Sequence[str], workspace: str | None, as_json: bool) -> None:
    """Keep a target."""
    keys = dict(_setting(text) for text in settings)
    if "type" in keys:
        raise click.BadParameter("give the type as --type", param_hint="--set")
    with opened(workspace) as home:
        target = home.compute.attach(name, type=type_, **keys)
    _write(target, as_json=as_json)


_ADD = "The same as pipes compute attach."
command.add_command(click.Command("add", params=attach.params, callback=attach.callback, help=_ADD))


@command.command("detach", help="Forget a compute target that was attached; what runs there goes on.")
@click.argument("name")
@workspace_option
def detach(*, name: str, workspace: str | None) -> None:
    """Forget a target."""
    with opened(workspace) as home:
        home.compute.detach(name)
    click.echo(f"target {name} is detached")


@command.command("start", help="Turn a managed compute target on, and wait until it is.")
@click.argument("name")
@configuration_option
@reads_workspace
def start(*, name: str, configuration: RunConfiguration | None, workspace: str | None, as_json: bool) -> None:
    """Turn a target on."""
    with _opened(workspace, configuration) as home:
        target = home.compute.start(name)
    _write(target, as_json=as_json)


@command.command("stop", help="Turn a managed compute target off, whatever runs there.")
@click.argument("name")
@configuration_option
@reads_workspace
def stop(*, name: str, configuration: RunConfiguration | None, workspace: str | None, as_json: bool) -> None:
    """Turn a target off."""
    with _opened(workspace, configuration) as home:
        target = home.compute.stop(name)
    _write(target, as_json=as_json)


_TEST = """Run a probe step on a compute target and report how that went.

Tells the round trip, the versions of Python and packages there, and whether the datastore can be reached. Ends with 75
when steps cannot run there.
"""


@command.command("test", help=_TEST, short_help="Run a probe step on a compute target.")
@click.argument("name")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the step.",
)
@configuration_option
@reads_workspace
def test(
    *, name: str, timeout_s: float, configuration: RunConfiguration | None, workspace: str | None, as_json: bool
) -> int:
    """Write a line for each thing looked at; return the exit code."""
    with _opened(workspace, configuration) as home:
        report = home.compute.test(name, timeout_s=timeout_s)
    if as_json:
        write_json({**_plain_report(report), "well": report.well})
    else:
        write_lines(_report_lines(report))
    return 0 if report.well else WorldError.exit_code


def _opened(workspace: str | None, configuration: RunConfiguration | None) -> Workspace:
    """Return the workspace, with the targets that a run configuration defines."""
    home = opened(workspace)
    if configuration is not None:
        from mlflow_pipes.workspace.situation import over

        home.configuration = over(home.configuration, configuration)
    return home


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _write(target: Target, *, as_json: bool) -> None:
    if as_json:
        write_json(target)
        return
    facts = {
        "type": target.type,
        "status": target.status,
        "holds": _holds(target.capacity),
        "shared": "by all runs: together they get no more" if target.shared else "",
        "defined": target.source,
        **{key: str(value) for key, value in target.options.items()},
    }
    head: Line = [(target.name, "bold"), (" (default)" if target.is_default else "", "dim")]
    lines: list[Line] = [head]
    for name, text in facts.items():
        lines += [[(f"  {name:<12} ", "dim"), (text, _STYLE.get(text, ""))]] if text else []
    write_lines(lines)
    if target.steps:
        write_lines([[]])
        write_table(
            ["step", "status", "since", "run", "pipeline"],
            [
                [
                    (step.node, ""),
                    (step.status, "green" if step.status == "running" else ""),
                    ("" if step.started_at is None else ago(step.started_at, utc_now()), "dim"),
                    (step.run_id[:8], "dim"),
                    (step.pipeline, ""),
                ]
                for step in target.steps
            ],
        )


def _busy(target: Target) -> str:
    running = sum(step.status == "running" for step in target.steps)
    queued = len(target.steps) - running
    return ", ".join([count(running, "step"), *([f"{queued} queued"] if queued else [])]) if target.steps else "nothing"


def _holds(capacity: Capacity | None) -> str:
    if capacity is None:
        return "known when it runs"
    at_once = capacity.slots - capacity.ahead
    parts = [f"{count(at_once, 'step')} at once"]
    if math.isfinite(capacity.cpus) and capacity.cpus != at_once:
        parts.append(f"{capacity.cpus:g} cpus")
    if capacity.memory_bytes:
        parts.append(size(capacity.memory_bytes))
    if capacity.gpus and math.isfinite(capacity.gpus):
        parts.append(count(int(capacity.gpus), "gpu"))
    return ", ".join(parts)


def _plain_report(report: ProbeReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


def _report_lines(report: ProbeReport) -> list[Line]:
    if report.problem:
        first, *rest = report.problem.splitlines()
        return [_line("fail", "step", first), *[[("         ", ""), (line, "")] for line in rest]]
    found = [
        _line("ok", "step", f"done by {report.worker} on {report.host}, which holds {_holds(report.capacity)}"),
        _line("ok", "round trip", f"{duration(report.round_trip_s)}; the first took {duration(report.first_s)}, "
              f"to start {duration(report.start_s)}"),
        _line("ok" if report.same_python else "fail", "python", f"{report.python} there, {report.here} here"),
        _line("ok" if report.datastore else "fail", "datastore",
              "a value went there and back" if report.datastore else "a value came back changed"),
    ]  # fmt: skip
    differ = [f"{name} {there} (here {here})" for name, (here, there) in report.different.items()]
    missing = [f"{name} {version}" for name, version in report.missing.items()]
    if not differ and not missing:
        return [*found, _line("ok", "packages", "all that are here are there, in the same versions")]
    verdict = "warn" if report.same_pipes else "fail"
    found += [_line(verdict, "packages", f"not there: {_first(missing)}")] if missing else []
    found += [_line(verdict, "packages", f"of other versions there: {_first(differ)}")] if differ else []
    return found


def _first(names: list[str]) -> str:
    more = len(names) - _SHOWN_PACKAGES
    return ", ".join([*names[:_SHOWN_PACKAGES], *([f"and {more} more (--json)"] if more > 0 else [])])


def _line(verdict: str, name: str, text: str) -> Line:
    unicode = stdout_look().unicode
    mark, style = {
        "ok": ("✓" if unicode else "+", "green"),
        "warn": ("!", "yellow"),
        "fail": ("✗" if unicode else "x", "bold red"),
    }[verdict]
    return [(f"{mark} {verdict:<4} ", style), (f"{name}: ", "bold"), (text, "")]
