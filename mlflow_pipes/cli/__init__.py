"""The command line ``pipes``. Importing this costs nothing; :func:`main` imports the command that is asked for."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process and end it with the documented exit code."""
    import sys

    from mlflow_pipes.cli.app import run
    from mlflow_pipes.machine.garbage import collected_rarely, end_quickly

    end_quickly()
    with collected_rarely():
        exit_code = run(sys.argv[1:])
    sys.exit(exit_code)
