"""``pipes environments``."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.moments import ago, utc_now
from mlflow_pipes.cli.output import iso, write_json, write_table
from mlflow_pipes.cli.standard_options import reads_workspace, workspace_option
from mlflow_pipes.display.words import count, size

if TYPE_CHECKING:
    from mlflow_pipes.display.look import Span
    from mlflow_pipes.environments import Built, Environments
    from mlflow_pipes.model.environment import Environment

_SHOWN_PACKAGES = 100


@click.group(
    "environments",
    help="List, show, build and remove what steps run with: interpreters and their packages.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List them when nothing else is asked for."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_environments, workspace=None, as_json=False)


@command.command("list", help="List the environments that the configuration names, and those that are built here.")
@reads_workspace
def list_environments(*, workspace: str | None, as_json: bool) -> None:
    """Write all environments."""
    entries = _entries(_environments(workspace))
    if as_json:
        write_json([entry.record() for entry in entries])
    elif not entries:
        click.echo("no environments; pipes.toml declares one: [environments.NAME]", err=True)
    else:
        write_table(["environment", "kind", "made of", "state", "size", "used"], [entry.row() for entry in entries])


@command.command("show", help="Show what is in an environment: its Python, its packages, where it is.")
@click.argument("name")
@click.option("--lock", is_flag=True, help="Write only the locked requirements, as a requirements file.")
@reads_workspace
def show(*, name: str, lock: bool, workspace: str | None, as_json: bool) -> None:
    """Resolve an environment and write what it holds."""
    environments = _environments(workspace, made=True)
    resolved = environments.resolve(name)
    if lock:
        click.echo(resolved.recipe, nl=False)
        return
    record = {
        "name": resolved.name,
        "kind": resolved.kind,
        "python": resolved.python,
        "digest": resolved.digest,
        "is_built": environments.is_built(resolved),
        "command": resolved.command,
        "environ": sorted(resolved.environ),
        "packages": resolved.packages,
    }
    if as_json:
        write_json(record)
        return
    built = "" if record["is_built"] else ", not built yet"
    click.echo(
        f"{resolved.name}: {resolved.kind}, Python {resolved.python}, {_packages(len(resolved.packages))}{built}"
    )
    click.echo(f"digest {resolved.digest}")
    if record["is_built"]:
        click.echo(f"started by {' '.join(resolved.command)}")
    shown = sorted(resolved.packages.items())
    write_table(["package", "version"], [[(one, ""), (version, "")] for one, version in shown[:_SHOWN_PACKAGES]])
    if len(shown) > _SHOWN_PACKAGES:
        click.echo(f"and {len(shown) - _SHOWN_PACKAGES} more; --json shows all")


@command.command("build", help="Build environments now, those that the configuration names if none is given.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@workspace_option
def build(*, names: tuple[str, ...], workspace: str | None) -> None:
    """Build each that is not there."""
    environments = _environments(workspace, made=True)
    for name in names or sorted(environments.declared):
        resolved, is_new = environments.build(name)
        what = "built" if is_new else "is there"
        click.echo(f"{resolved.name}: {what}, Python {resolved.python}, {_packages(len(resolved.packages))}")


@command.command("remove", help="Remove what is built of environments, by name or by the beginning of a key.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@workspace_option
def remove(*, names: tuple[str, ...], workspace: str | None) -> None:
    """Remove each; the next run that needs it builds it again."""
    environments = _environments(workspace)
    for name in names:
        _tell_removed(environments.remove(name), "removed")


@command.command("gc", help="Remove environments that were not used for long, and what was left half-built.")
@click.option(
    "--unused-for",
    "unused_days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Keep those that a run used in so many days.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing, only tell.")
@workspace_option
def gc(*, unused_days: float, dry_run: bool, workspace: str | None) -> None:
    """Collect garbage."""
    found = _environments(workspace).collect(unused_days, dry_run=dry_run)
    _tell_removed(found, "would remove" if dry_run else "removed")


@dataclass(frozen=True)
class _Entry:
    """An environment to list: declared, built, or both."""

    name: str
    declared: Environment | None
    built: Built | None

    @property
    def state(self) -> str:
        if self.built is not None:
            return "built" if self.built.whole else "half-built"
        assert self.declared is not None
        return "not built" if self.declared.kind in {"requirements", "conda"} else "as it is"

    def row(self) -> list[Span]:
        built, declared = self.built, self.declared
        of = declared.made_of if declared else _packages(len(built.packages)) if built else ""
        used = ago(dt.datetime.fromtimestamp(built.used_at, dt.UTC), utc_now()) if built else ""
        kind = declared.kind if declared else built.kind if built else ""
        return [
            (self.name or "(unknown)", "bold" if declared else ""),
            (kind, ""),
            (of, ""),
            (self.state, "green" if self.state == "built" else "dim"),
            (size(built.size_bytes) if built else "", ""),
            (used, "dim"),
        ]

    def record(self) -> dict[str, Any]:
        built = self.built
        return {
            "name": self.name,
            "declared": self.declared is not None,
            "kind": self.declared.kind if self.declared else built.kind if built else None,
            "made_of": self.declared.made_of if self.declared else None,
            "state": self.state,
            "key": built.key if built else None,
            "folder": built.folder if built else None,
            "size_bytes": built.size_bytes if built else None,
            "built_at": iso(built.built_at) if built else None,
            "used_at": iso(built.used_at) if built else None,
        }


def _entries(environments: Environments) -> list[_Entry]:
    """Return the declared ones, each with what is built of it, then what is built of others, or was once."""
    shelf = environments.built()
    newest = {one.name: one for one in reversed(shelf)}
    declared = [_Entry(name, one, newest.get(name)) for name, one in sorted(environments.declared.items())]
    told = {entry.built.key for entry in declared if entry.built is not None}
    return [*declared, *(_Entry(one.name, None, one) for one in shelf if one.key not in told)]


def _environments(workspace: str | None, *, made: bool = False) -> Environments:
    """Return a project's environments; the workspace is made only where something is to be kept in it."""
    from mlflow_pipes.workspace.configuration import load
    from mlflow_pipes.workspace.workspace import Workspace, located

    return located(workspace).environments if made else Workspace(load(workspace=workspace)).environments


def _tell_removed(removed: list[Built], verb: str) -> None:
    for one in removed:
        click.echo(f"{verb} {one.name or one.key[:8]} ({size(one.size_bytes)})")
    if not removed:
        click.echo("nothing to remove")


def _packages(number: int) -> str:
    return count(number, "package")
