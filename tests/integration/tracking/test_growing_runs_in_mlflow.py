"""Calls that a step returned, read back through MLflow's own client: nested below the step that returned them."""

import pytest

from mlflow_pipes import Workspace, pipeline, run, step

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


@step
def double(x: int) -> int:
    return 2 * x


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def choose(x: int) -> int:
    return add([double(x), double(x + 1)])


@step
def countdown(n: int) -> int:
    return countdown(n - 1) if n else 0


@step
def broken(x: int) -> int:
    raise ValueError(f"no {x}")


@step
def returns_broken(x: int) -> int:
    return broken(x)


@pipeline
def growing():
    return choose(1), add(double.map([5, 6]))


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path) as opened:
        yield opened


def published(call, workspace):
    """Run a call, deliver it, and return its record with the runs that MLflow's client finds, by id."""
    from mlflow import MlflowClient

    from mlflow_pipes.workspace import publishing

    done = run(call, workspace=workspace, observers=(), target="inline", raise_on_failure=False)
    publishing.sync(workspace.folder, ledger=workspace.configuration.ledger)
    client = MlflowClient(publishing.own_uri(workspace.folder))
    experiment = client.get_experiment_by_name(done.experiment)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return done, {one.info.run_id: one for one in found}


def parents(found):
    named = {one.info.run_id: one.info.run_name for one in found.values()}
    return {one.info.run_name: named.get(one.data.tags.get("mlflow.parentRunId", "")) for one in found.values()}


def test_calls_stand_below_the_step_that_returned_them(workspace):
    _, found = published(growing(), workspace)
    assert parents(found) == {
        "growing": None,
        "choose": "growing",
        "choose/double[x=1]": "choose",
        "choose/double[x=2]": "choose",
        "choose/add": "choose",
        "double": "growing",
        "double[x=5]": "double",
        "double[x=6]": "double",
        "add": "growing",
    }
    assert {one.info.status for one in found.values()} == {"FINISHED"}


def test_their_arguments_are_parameters(workspace):
    done, found = published(choose(1), workspace)
    assert found[done.step("choose/double[x=1]").id].data.params == {"x": "1"}


def test_a_deep_recursion_arrives_whole(workspace):
    done, found = published(countdown(200), workspace)
    assert len(found) == 202
    deepest = done.step("countdown~201")
    assert found[deepest.id].data.tags["mlflow.parentRunId"] == done.step("countdown~200").id


def test_a_step_whose_call_failed_says_so(workspace):
    done, found = published(returns_broken(1), workspace)
    outer = found[done.step("returns_broken").id]
    assert outer.info.status == "FAILED"
    assert "step 'returns_broken/broken' failed" in outer.data.tags["mlflow.note.content"]
