"""``pipes show`` of runs that grew: a tree, bounded, with warnings, and failures where they began."""

import pytest
from click.testing import CliRunner

from mlflow_pipes import Workspace, pipeline, run, step
from mlflow_pipes.cli.app import app
from mlflow_pipes.cli.commands.show import SHOWN_STEPS

pytestmark = pytest.mark.integration


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def double(x: int) -> int:
    if x == 1500:
        raise ValueError("no such number")
    return 2 * x


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def forgets(x: int) -> int:
    double(x)
    return x


@step
def deep(n: int) -> int:
    return deep(n - 1) if n else double(1500)


@pipeline
def inner(count: int):
    return add(double.map(numbers(count)))


@pipeline
def outer(count: int):
    first = forgets(1)
    return inner(count), add([first])


def shown(call, folder, *options):
    with Workspace.open(folder) as workspace:
        run(call, workspace=workspace, observers=(), target="inline", raise_on_failure=False)
    done = CliRunner().invoke(app, ["show", "--workspace", str(folder), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_calls_stand_below_what_they_stand_in(tmp_path):
    lines = [line.rstrip() for line in shown(outer(2), tmp_path).splitlines()]
    names = [line.partition("succeeded")[0].rstrip() for line in lines if "succeeded" in line][1:]
    assert names == [
        "✓ forgets",
        "✓ inner",
        "  ✓ numbers",
        "  ✓ double",
        "    ✓ double[x=0]",
        "    ✓ double[x=1]",
        "  ✓ add",
        "✓ add",
    ]


def test_calls_that_were_not_returned_are_a_warning(tmp_path):
    assert "warning: forgets: step 'forgets' made 1 call of steps ('double') and returned 0" in shown(
        outer(2), tmp_path
    )


def test_thousands_of_calls_are_bounded_and_what_failed_is_among_those_shown(tmp_path):
    text = shown(outer(2000), tmp_path)
    assert len(text.splitlines()) < SHOWN_STEPS + 40
    assert "more; --all shows them" in text
    assert "✗ double[x=1500]" in text
    assert text.count("ValueError: no such number") == 3, "in the headline, in its row, and below"
    assert "✓ forgets" in text


def test_a_deep_recursion_stays_narrow(tmp_path):
    text = shown(deep(150), tmp_path, "--all")
    assert max(len(line) for line in text.splitlines() if "deep~" in line) < 100
    assert text.count("traceback and log") == 1
