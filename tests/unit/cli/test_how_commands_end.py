import io
import os
import subprocess
import sys

import click
import pytest

from mlflow_pipes.cli import app as app_module
from mlflow_pipes.cli.app import COMMANDS, app, run
from mlflow_pipes.cli.commands.run import exit_code, parsed_tags
from mlflow_pipes.cli.failures import tell
from mlflow_pipes.errors import (
    ArgumentError,
    ConfigurationError,
    DatastoreError,
    GraphError,
    InternalError,
    NotFoundError,
    RunFailed,
    UnstorableOutputError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GraphError("x"), 2),
        (ArgumentError("x"), 2),
        (ConfigurationError("x"), 2),
        (NotFoundError("x"), 4),
        (RunFailed("x"), 1),
        (UnstorableOutputError("x"), 1),
        (DatastoreError("x"), 75),
        (InternalError("x"), 70),
        (ValueError("x"), 70),
        (click.UsageError("x"), 2),
    ],
)
def test_exit_codes_follow_whose_fault_it_is(error, code):
    assert tell(error, io.StringIO()) == code


def test_our_bug_asks_for_a_report_and_shows_no_traceback_unless_asked():
    def told(debug):
        stream = io.StringIO()
        try:
            raise ZeroDivisionError("oops")
        except ZeroDivisionError as error:
            tell(error, stream, debug=debug)
        return stream.getvalue()

    assert "please report it" in told(debug=False)
    assert "Traceback" not in told(debug=False)
    assert "Traceback" in told(debug=True)


def test_an_unknown_command_suggests_a_near_one(capsys):
    assert run(["shwo"]) == 2
    assert "no command 'shwo'; did you mean 'show'?" in capsys.readouterr().err


def test_a_file_in_place_of_a_command_says_what_to_write(capsys):
    assert run(["flights.py"]) == 2
    assert "pipes run flights.py" in capsys.readouterr().err


def test_no_words_at_all_give_help(capsys):
    assert run([]) == 0
    assert "Usage: pipes" in capsys.readouterr().out


def test_interrupts_end_with_130(monkeypatch, capsys):
    command = click.Command("version", callback=lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(app_module.Pipes, "get_command", lambda *_: command)
    assert run(["version"]) == 130


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_begins_as_the_list_says(name, capsys):
    command = app.get_command(click.Context(app), name)
    assert run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: pipes {name}")
    words = COMMANDS[name].rstrip(".").split()[:3]
    assert " ".join(words) in " ".join((command.help or "").split())


def test_a_run_option_that_stands_before_the_file_must_be_ours(capsys):
    assert run(["run", "--depths", "4", "flights.py"]) == 2
    assert "a pipeline's own options stand after it" in capsys.readouterr().err


class Ended:
    def __init__(self, status, message=""):
        self.status = status
        self.message = message


@pytest.mark.parametrize(
    ("run_", "code"),
    [
        (Ended("succeeded"), 0),
        (Ended("failed", "x"), 1),
        (Ended("cancelled", "cancelled from another process"), 3),
        (Ended("cancelled", "cancelled by Ctrl-C"), 130),
    ],
)
def test_a_run_ends_the_command_as_it_ended(run_, code):
    assert exit_code(run_) == code


def test_tags_are_key_value():
    assert parsed_tags(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(click.BadParameter):
        parsed_tags(["a"])


def test_a_reader_who_stops_reading_gets_no_words():
    program = "import sys; from mlflow_pipes.cli.app import run; sys.exit(run(['--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run([sys.executable, "-c", program], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 141
    assert done.stderr == b""


def test_help_imports_no_command_and_nothing_heavy():
    program = """
import sys
from mlflow_pipes.cli.app import run
run(["--help"])
heavy = {"rich", "sqlalchemy", "mlflow", "pandas", "pyarrow", "typer"} & {name.partition(".")[0] for name in sys.modules}
assert not heavy, heavy
assert not [name for name in sys.modules if name.startswith("mlflow_pipes.cli.commands.")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_wrong_options_are_told_like_every_other_error(capsys):
    assert run(["runs", "--limt", "3"]) == 2
    told = capsys.readouterr().err
    assert "Usage: pipes runs" in told
    assert "\nerror: No such option" in told
