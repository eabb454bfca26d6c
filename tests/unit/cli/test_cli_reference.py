"""The reference pages say what the program does."""

import re
from pathlib import Path

import mlflow_pipes.errors
from mlflow_pipes.cli.app import BROKEN_PIPE, INTERRUPTED
from mlflow_pipes.cli.commands import run as run_command
from mlflow_pipes.cli.reference import page
from mlflow_pipes.workspace import run_configuration
from mlflow_pipes.workspace.configuration import KEYS
from mlflow_pipes.workspace.target_types import TARGET_TYPES

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def test_the_page_of_the_command_line_is_made_of_its_help():
    written = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: python -m mlflow_pipes.cli.reference > docs/reference/cli.md"


def test_every_exit_code_is_documented_and_no_other():
    text = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    errors = vars(mlflow_pipes.errors).values()
    raised = {kind.exit_code for kind in errors if isinstance(kind, type) and hasattr(kind, "exit_code")}
    ended = {0, INTERRUPTED, BROKEN_PIPE, run_command.FAILED, run_command.CANCELLED, run_command.INTERRUPTED}
    assert documented == raised | ended


def test_every_key_of_the_configuration_is_documented_and_no_other():
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    whole, *of_targets = re.split(r"A target of type `(\w+)`", text)
    keys = {key.strip("[]").partition(".")[0] for key in re.findall(r"^\| `([^`]+)` \|", whole, re.MULTILINE)}
    assert keys == set(KEYS)
    documented = {}
    for kind, rows in zip(of_targets[::2], of_targets[1::2], strict=True):
        cells = re.findall(r"^\| (`[^|]+`) \|", rows, re.MULTILINE)
        documented[kind] = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    assert documented == {kind: set(one.table_keys()) for kind, one in TARGET_TYPES.items() if one.keys}


def test_every_key_of_a_run_configuration_is_documented_and_no_other():
    text = (REFERENCE.parent / "compute-targets.md").read_text(encoding="utf-8")
    table = text.split("| key | meaning |")[1].split("\n\n")[0]
    documented = [
        key for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for key in re.findall(r"`(.*?)`", cell)
    ]
    assert {key.strip("[]").partition(".")[0] for key in documented} == set(run_configuration.KEYS)
