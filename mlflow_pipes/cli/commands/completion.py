"""``pipes completion``: the shell's own script for completing our command line."""

from __future__ import annotations

import click

_HOW = """Print the script that makes a shell complete pipes.

Put this into the shell's start file:

\b
  bash (~/.bashrc):                    eval "$(pipes completion bash)"
  zsh (~/.zshrc):                      eval "$(pipes completion zsh)"
  fish (~/.config/fish/config.fish):   pipes completion fish | source
"""


@click.command("completion", help=_HOW, short_help="Print the script that makes a shell complete pipes.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Write the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from mlflow_pipes.cli.app import app

    found = get_completion_class(shell)
    assert found is not None, "the choice allows only shells that click knows"
    click.echo(found(app, {}, "pipes", "_PIPES_COMPLETE").source())
