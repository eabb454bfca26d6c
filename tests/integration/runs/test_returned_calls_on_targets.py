"""Calls that a step returned run where they say, also on targets that nothing declared asks for."""

import os

import pytest

from mlflow_pipes import Workspace, run, step

pytestmark = pytest.mark.integration


@step(reuse="never")
def process_id(asked: int) -> int:
    return os.getpid()


@step(reuse="never")
def elsewhere(target: str) -> list:
    return [process_id.options(target=target)(1), process_id(2)]


def test_a_returned_call_runs_on_a_target_that_no_declared_step_asks_for(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        done = run(elsewhere("inline"), workspace=workspace, target="local", observers=())
        inline, local = done.output()
        targets = {one.name: set() for one in done.steps}
        for one in done.steps:
            targets[one.name].add(one.target)
    assert inline == os.getpid() != local
    assert targets == {"elsewhere": {"local"}, "process_id": {"inline", "local"}}


def test_a_returned_call_on_an_unknown_target_fails_its_step_with_the_near_name(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        done = run(elsewhere("inlin"), workspace=workspace, target="local", observers=(), raise_on_failure=False)
        assert done.status == "failed"
        assert "did you mean 'inline'" in done.failure_text()
