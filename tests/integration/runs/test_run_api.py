"""``run(...)`` and the records that it returns, as others build on them."""

import subprocess
import sys
import time
from datetime import UTC
from typing import NamedTuple

import pytest

from mlflow_pipes import RunFailed, Workspace, current_run, pipeline, run, step
from mlflow_pipes.errors import ConfigurationError

pytestmark = pytest.mark.integration


class Parts(NamedTuple):
    low: list[int]
    high: list[int]


@step
def double(x: int) -> int:
    return 2 * x


@step
def split(values: list[int]) -> Parts:
    middle = len(values) // 2
    return Parts(values[:middle], values[middle:])


@step
def total(values: list[int]) -> int:
    print("adding", len(values))
    current_run().log("count", len(values))
    return sum(values)


@step
def fail(x: int) -> int:
    raise ValueError(f"no {x}")


@step(retries=2)
def flaky(folder: str) -> int:
    import pathlib

    attempt = current_run().attempt
    pathlib.Path(folder, f"attempt-{attempt}").touch()
    if attempt < 3:
        raise ConnectionError("not yet")
    return attempt


@step(timeout_s=0.3)
def sleepy() -> int:
    time.sleep(60)
    return 1


@step
def crash() -> int:
    import os

    os._exit(3)


@step(reuse="never")
def effect(x: int) -> int:
    return x + 1


@step
def large() -> str:
    return "x" * 100_000


@step
def length(text: str, more: int) -> int:
    return len(text) + more


@pipeline
def lengthened(more: int):
    return length(large(), more)


@pipeline
def inner(values: list[int]):
    parts = split(values)
    return {"low": total(parts.low), "high": total.options(name="high total")(parts.high)}


@pipeline
def outer(count: int = 4):
    sums = inner(list(range(count)))
    return double(sums["low"]), sums


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as opened:
        yield opened


def go(call, workspace, **options):
    return run(call, workspace=workspace, observers=(), **options)


@pytest.mark.parametrize("target", ["local", "inline"])
def test_a_bare_step_call_runs(workspace, target):
    done = go(double(21), workspace, target=target)
    assert (done.status, done.output()) == ("succeeded", 42)
    assert done.step("double").target == target


def test_results_are_shared_between_targets(workspace):
    go(double(21), workspace, target="inline")
    assert go(double(21), workspace, target="local").step("double").reused


@pytest.mark.usefixtures("either_ledger")
def test_a_pipeline_in_a_pipeline_is_a_child_run(workspace):
    done = go(outer(), workspace)
    assert done.output() == (2, {"low": 1, "high": 5})
    (group,) = done.groups
    assert group.name == "inner"
    assert {one.node: one.parent_id for one in done.steps}["inner/split"] == group.id
    assert group.parent_id == done.id
    assert group.status.good


@pytest.mark.usefixtures("either_ledger")
def test_records_say_when_and_where(workspace):
    done = go(outer(), workspace)
    one = done.step("inner/total")
    assert one.started_at.tzinfo is UTC
    assert one.started_at <= one.ended_at
    assert (one.attempts, one.reused, one.target) == (1, False, "local")
    assert one.worker
    assert one.metrics["count"] == 2
    assert done.metrics["inner/total/count"] == 2
    again = go(outer(), workspace)
    assert all(one.reused for one in again.steps)
    assert again.step("inner/total").metrics["count"] == 2
    assert [found.id for found in workspace.runs.list()] == [again.id, done.id]
    assert workspace.runs.get(done.id[:10]).id == done.id


def test_only_what_depends_on_a_changed_part_runs_again(workspace):
    go(inner([1, 2, 3, 4]), workspace)
    again = go(inner([1, 2, 3, 5]), workspace)
    assert [one.node for one in again.steps if not one.reused] == ["split", "high total"]


@pytest.mark.usefixtures("either_ledger")
def test_a_failed_run_raises_with_the_users_frame_first(workspace):
    with pytest.raises(RunFailed) as caught:
        go(fail(3), workspace)
    text = str(caught.value)
    assert "ValueError" in text
    assert "no 3" in text
    assert text.index("test_run_api.py") < text.index("no 3") or "test_run_api.py" in text
    assert "worker/execute.py" not in text
    assert caught.value.run.step("fail").status == "failed"
    assert go(fail(3), workspace, raise_on_failure=False).status == "failed"


@pytest.mark.usefixtures("either_ledger")
def test_attempts_are_counted_and_kept(workspace, tmp_path):
    call = flaky.options(retries=2)(str(tmp_path))
    done = go(call, workspace)
    assert done.output() == 3
    assert done.step("flaky").attempts == 3
    assert [attempt.failure is None for attempt in done.step("flaky").history] == [False, False, True]


def test_a_step_past_its_timeout_is_killed(workspace):
    begin = time.monotonic()
    done = go(sleepy(), workspace, raise_on_failure=False)
    assert time.monotonic() - begin < 40
    assert done.step("sleepy").failure.kind == "timeout"


def test_a_worker_that_dies_fails_its_attempt_and_no_more(workspace):
    @pipeline
    def both():
        return crash(), double(3)

    done = go(both(), workspace, raise_on_failure=False, fail_fast=False)
    assert done.step("crash").failure.kind == "lost"
    assert done.step("double").status == "succeeded"


def test_effects_are_never_reused_but_what_is_below_them_is_by_content(workspace):
    @pipeline
    def with_effect():
        return double(effect(1))

    go(with_effect(), workspace)
    again = go(with_effect(), workspace)
    assert [one.status.value for one in again.steps] == ["succeeded", "reused"]


def blobs_of(workspace):
    return [workspace.datastore.path(digest) for digest, _ in workspace.datastore.blobs()]


@pytest.mark.usefixtures("either_ledger")
def test_a_corrupt_output_is_never_used_but_made_again(workspace):
    assert go(lengthened(1), workspace).output() == 100_001
    for blob in blobs_of(workspace):
        blob.chmod(0o644)
        blob.write_bytes(b"y" * blob.stat().st_size)
    done = go(lengthened(2), workspace)
    assert done.output() == 100_002
    assert [(one.status.value, one.attempts) for one in done.steps] == [("succeeded", 1), ("succeeded", 2)]
    assert done.steps[1].history[0].failure.kind == "input"


def test_an_output_whose_blobs_are_gone_is_made_again(workspace):
    go(lengthened(1), workspace)
    for blob in blobs_of(workspace):
        blob.unlink()
    done = go(lengthened(2), workspace)
    assert done.output() == 100_002
    assert [one.attempts for one in done.steps] == [1, 1]


def test_a_step_that_asks_for_too_much_is_refused_before_anything_runs(workspace):
    with pytest.raises(ConfigurationError, match="cpus=1000"):
        go(double.options(cpus=1000)(1), workspace)
    assert workspace.runs.list() == []


def test_an_unknown_target_is_refused_with_the_near_name(workspace):
    with pytest.raises(ConfigurationError, match="did you mean 'local'"):
        go(double(1), workspace, target="locla")


ORCHESTRATED = """
import sys
from mlflow_pipes import run, step

@step
def logged(x: int) -> int:
    import mlflow
    mlflow.log_metric("twice", 2 * x)
    return x

if __name__ == "__main__":
    done = run(logged(21), workspace=sys.argv[1], observers=())
    assert done.step("logged").metrics["twice"] == 42
    assert not [name for name in sys.modules if name.partition(".")[0] == "mlflow"], "the orchestrator imported mlflow"
"""


def test_the_orchestrator_never_imports_mlflow_though_its_steps_log_with_it(tmp_path):
    script = tmp_path / "orchestrated.py"
    script.write_text(ORCHESTRATED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "ws")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
