"""A process that does many runs, such as a notebook, keeps neither files nor processes of those that are over."""

from pathlib import Path

import pytest

from mlflow_pipes import pipeline, run, step

pytestmark = pytest.mark.integration


@step
def padded(number: int) -> str:
    return f"{number:02000}"


@pipeline
def flow(start: int):
    return [padded(start + offset) for offset in range(3)]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("target", ["inline", "local"])
def test_files_of_past_runs_are_closed(tmp_path, target):
    for number in range(3):
        run(flow(number), workspace=tmp_path, target=target, observers=())
    before = open_files()
    for number in range(60):
        run(flow(100 * number), workspace=tmp_path, target=target, observers=())
    assert open_files() < before + 40  # some until the garbage collector comes by
