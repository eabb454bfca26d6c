"""A forecast is held against a real run of the same steps, in the same sizes."""

import time

import pytest

from mlflow_pipes import Workspace, pipeline, run, step
from mlflow_pipes.workspace.forecast import simulate

pytestmark = pytest.mark.integration

TOLERANCE = 0.15


@step
def prepare(x: int) -> int:
    time.sleep(0.3)
    return x


@step
def nap(x: int, tenths: int) -> int:
    time.sleep(tenths / 10)
    return x + tenths


@step
def collect(values: list[int]) -> int:
    time.sleep(0.2)
    return sum(values)


@pipeline
def naps(x: int = 1):
    """Two workers need an order: chains, a fan, and more ready steps than room."""
    first = prepare(x)
    short = [nap(first, tenths) for tenths in (2, 3, 4)]
    long = [nap(number, 5) for number in short]
    return collect([*long, nap(first, 9)])


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 2\n")
    with Workspace.open(tmp_path) as opened:
        yield opened


def test_a_run_takes_as_long_as_its_own_durations_say(workspace):
    """The sleeps dwarf what a busy machine adds, and what it adds to a step is in the recorded durations."""
    done = run(naps(), workspace=workspace, observers=())
    starts = [one.started_at for one in done.steps]
    took = (max(one.ended_at for one in done.steps) - min(starts)).total_seconds()
    told = simulate(naps(), workspace=workspace, cold=True)
    assert told.sources == {"node": 9}
    assert told.makespan_s == pytest.approx(took, rel=TOLERANCE)
    assert told.at_best_s <= took * (1 + TOLERANCE)
