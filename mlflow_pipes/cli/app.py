"""``pipes``: the commands and how each run of one ends."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.errors import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

# name -> what ``pipes --help`` says of it. Each stands in a module of its name in ``cli.commands``, imported when used.
COMMANDS = {
    "run": "Run a pipeline, reusing what is already computed.",
    "plan": "Show what would run, and why.",
    "simulate": "Tell how long a run would take on targets of other sizes.",
    "runs": "List runs, newest first.",
    "show": "Show a run: its steps, durations, metrics and outputs.",
    "logs": "Show what the steps of a run wrote.",
    "explain": "Say why a step ran, naming what changed, and for what it waited.",
    "diff": "Compare two runs: steps, parameters, outputs, metrics, durations.",
    "resume": "Go on with a run that failed, was cancelled or was killed.",
    "cancel": "Ask a running run, or some steps of it, to stop.",
    "compute": "List, attach, test, start and stop compute targets.",
    "environments": "List, show, build and remove what steps run with.",
    "services": "List, call, read and stop deployed services.",
    "ui": "Open the MLflow UI on the workspace.",
    "sync": "Deliver to MLflow what it has not been told yet.",
    "gc": "Delete stored outputs that nothing needs any more.",
    "doctor": "Check that everything pipes needs is in order.",
    "version": "Show the version.",
    "completion": "Print the script that makes a shell complete pipes.",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Pipes(click.Group):
    """A group that imports a command when it is used, so that ``pipes --help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order of a user's way."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return a command, None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"mlflow_pipes.cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is asked for; a near name is suggested for one that is not there."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = suggest(name, COMMANDS)
            if not hint and name.partition(":")[0].endswith(".py"):
                hint = f"; to run a file: pipes run {name}"
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from mlflow_pipes.cli.commands.version import own_version

        click.echo(f"pipes {own_version()}")
        ctx.exit()


app = Pipes(
    name="pipes",
    help="Run pipelines of plain Python functions: nothing is computed twice, everything is recorded.",
    epilog="Exit codes: 0 done, 1 a step failed, 2 wrong usage or declaration, 3 cancelled (130 after Ctrl-C), "
    "4 not found, 70 a bug of ours, 75 the world failed (disk, network, worker): try again.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        )
    ],
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-") if token.startswith("-") else token,
        "max_content_width": 100,
    },
)


def run(args: Sequence[str], *, debug: bool | None = None) -> int:
    """Run one command and return its exit code; errors are told on standard error, without our traceback.

    Args:
        args: the words after ``pipes``.
        debug: show our traceback too; by default when ``PIPES_DEBUG`` is set.
    """
    debug = bool(os.environ.get("PIPES_DEBUG")) if debug is None else debug
    try:
        answer = _invoke(args)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        click.echo("", err=True)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the program: each kind gets its words and its exit code
        from mlflow_pipes.cli.failures import tell

        return tell(error, sys.stderr, debug=debug)
    return answer if isinstance(answer, int) else 0


def _invoke(args: Sequence[str]) -> Any:
    """Do what ``click`` does in ``main``, which would end the process by itself on a broken pipe."""
    if completion := os.environ.get("_PIPES_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, "pipes", "_PIPES_COMPLETE", completion)
    try:
        with app.make_context("pipes", list(args) or ["--help"]) as context:
            return app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code


def _abandon_stdout() -> None:
    """Nobody reads our output any more (``pipes runs | head``): leave without a word, also when Python flushes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
