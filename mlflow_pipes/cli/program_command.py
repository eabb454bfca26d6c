"""A command of the form ``pipes run FILE --depths 4,8``: its options depend on what the file declares."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from mlflow_pipes.cli.docstrings import summary_of
from mlflow_pipes.cli.parameters import ParameterOption, options_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.cli.program import Program


class ProgramCommand(click.Command):
    """Takes ``FILE[:PIPELINE]`` first, loads it, and goes on as a command with the pipeline's parameters as options."""

    program: Program | None = None

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments, with the options of the file that stands among them."""
        text, rest = self.split(args, parent)
        if text is None:
            return super().make_context(info_name, args or ["--help"], parent, **extra)
        from mlflow_pipes.cli.program import load

        command = self.for_program(load(text))
        return super(ProgramCommand, command).make_context(f"{info_name} {text}", rest, parent, **extra)

    def for_program(self, program: Program) -> ProgramCommand:
        """Return this command with the parameters of *program* as further options."""
        ours = [option for option in self.params if isinstance(option, click.Option)]  # FILE itself takes no name
        taken = {name.removeprefix("--") for option in ours for name in option.opts} | {"help"}
        parameters = options_for(program.function, taken=taken)
        command = type(self)(
            name=self.name,
            callback=self.callback,
            params=[*parameters, *ours],
            help=summary_of(inspect.getdoc(program.function)) or f"{self.name} {program.name}",
        )
        command.program = program
        return command

    def split(self, args: Sequence[str], parent: click.Context | None) -> tuple[str | None, list[str]]:
        """Return the FILE among the arguments (None when there is none) and the others.

        Only options of this command may stand before it: those of the pipeline are not known yet.
        """
        takes_value = {
            name: not option.is_flag
            for option in self.params
            if isinstance(option, click.Option)
            for name in option.opts
        }
        index = 0
        while index < len(args):
            word = args[index]
            if word == "--" and index + 1 < len(args):
                return args[index + 1], [*args[:index], *args[index + 2 :]]
            if not word.startswith("-") or word == "-":
                return word, [*args[:index], *args[index + 1 :]]
            name = word.partition("=")[0].replace("_", "-")
            if name not in takes_value and name not in {"-h", "--help"} and not name.startswith("--no-"):
                raise click.UsageError(
                    f"no such option {name!r} before the file; a pipeline's own options stand after it", parent
                )
            index += 2 if takes_value.get(name) and "=" not in word else 1
        return None, list(args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the pipeline's parameters first, then the options that every run has."""
        own = [param for param in self.params if isinstance(param, ParameterOption)]
        others = [
            param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and not isinstance(param, ParameterOption)
        ]
        for title, params in (("Parameters", own), ("Options", others)):
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def program_of(ctx: click.Context) -> Program:
    """Return what the user's file declares."""
    command = ctx.command
    assert isinstance(command, ProgramCommand)
    assert command.program is not None, "only called with a file"
    return command.program
