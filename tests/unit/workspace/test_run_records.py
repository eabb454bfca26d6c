from datetime import UTC, datetime

import pytest

from mlflow_pipes import content
from mlflow_pipes.errors import NotFoundError
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.run import (
    AttemptEnded,
    CodeSeen,
    RunEnded,
    RunStarted,
    Status,
    StepChanged,
    StepDeclared,
    StepTracked,
)
from mlflow_pipes.model.step import CodeFingerprint, CodeLeaf
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.workspace import Workspace
from mlflow_pipes.workspace.explain import compare

T0 = 1_700_000_000.0
A, B, C = "a" * 32, "ab" + "c" * 30, "b" * 32
BAD = Failure(FailureKind.EXCEPTION, "ValueError: bad", ("ValueError",), '  File "app.py", line 3\nValueError: bad')


@pytest.fixture
def workspace(tmp_path, either_ledger):
    with Workspace.open(tmp_path / "w") as opened:
        yield opened


def start(run_id, at=T0, **changes):
    fields = {"pipeline": "flights", "experiment": "flights", "host": this_host(), "process": this_process()}
    return RunStarted(run_id, started_at=at, **{**fields, **changes})


def step_id(run_id, node):
    return (run_id[:2] + node).encode().hex().ljust(32, "0")[:32]


def declare(run_id, node, position=0, **changes):
    name = node.partition("[")[0]
    return StepDeclared(run_id, step_id(run_id, node), node, name, "step", run_id, position=position, **changes)


def change(run_id, node, status, at=T0, **changes):
    return StepChanged(run_id, step_id(run_id, node), status, at, **changes)


@pytest.fixture
def history(workspace):
    store = workspace.datastore
    table = content.store({"rows": list(range(2000))}, store)
    code = CodeFingerprint("c" * 64, (CodeLeaf("function", "app.load", "1"),))
    newer = CodeFingerprint("d" * 64, (CodeLeaf("function", "app.load", "2"),))
    workspace.ledger.exchange(
        [
            start(A, parameters={"folder": "data"}),
            CodeSeen(code),
            CodeSeen(newer),
            declare(A, "load", parameters={"n": "3"}),
            declare(A, "train[x=1]", 1, parents=("load",)),
            declare(A, "train[x=2]", 2, parents=("load",)),
            change(A, "load", Status.SUCCEEDED, T0 + 2, key="k" * 64, code=code.digest, inputs={"n": "i3"},
                   output=table, started_at=T0 + 1, attempts=2, target="local", worker="w1"),
            StepTracked(A, step_id(A, "load"), Tracked((Metric("rows", number=5.0),), {"mode": "fast"}, {"mine": "x"})),
            change(A, "train[x=1]", Status.SUCCEEDED, T0 + 3, output=content.store(8, store)),
            change(A, "train[x=2]", Status.SUCCEEDED, T0 + 3, output=content.store(9, store)),
            RunEnded(A, Status.SUCCEEDED, T0 + 4, content.store((1, 2), store)),
            start(B, T0 + 100),
            declare(B, "load"),
            declare(B, "train[x=1]", 1),
            change(B, "load", Status.REUSED, T0 + 101, reused_from=step_id(A, "load"), output=table, code=newer.digest,
                   inputs={"n": "i4"}),
            change(B, "train[x=1]", Status.FAILED, T0 + 102, reason="ValueError: bad"),
            AttemptEnded(B, step_id(B, "train[x=1]"), 1, T0 + 101, T0 + 102, failure=BAD),
            RunEnded(B, Status.FAILED, T0 + 103, message="1 step failed"),
            start(C, T0 + 200, pipeline="weather"),
        ],
        [],
        T0,
    )  # fmt: skip
    return workspace.runs


def test_runs_are_listed_newest_first_and_filtered(history):
    assert [run.id for run in history.list()] == [C, B, A]
    assert [run.id for run in history.list("flights", limit=1)] == [B]
    assert [run.id for run in history.list(status="succeeded")] == [A]
    with pytest.raises(NotFoundError, match=r"'suceeded'; did you mean 'succeeded'"):
        history.list(status="suceeded")


def test_a_run_is_found_by_id_by_its_beginning_and_as_latest(history):
    assert history.get(A).id == history.get("aaa").id == A
    assert history.get("latest").id == C
    with pytest.raises(NotFoundError, match="several runs begin with 'a'"):
        history.get("a")
    with pytest.raises(NotFoundError, match=r"no run 'latets'; did you mean 'latest'"):
        history.get("latets")
    with pytest.raises(NotFoundError, match="is a pipeline"):
        history.get("flights")
    with pytest.raises(NotFoundError, match="no run 'abd'"):
        history.get("abd")


def test_a_workspace_without_runs_has_no_latest(workspace):
    with pytest.raises(NotFoundError, match="no runs yet"):
        workspace.runs.get("latest")


def test_a_run_tells_what_it_was(history):
    run = history.get(A)
    assert (run.status, str(run.status), run.duration_s) == ("succeeded", "succeeded", 4.0)
    assert run.started_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert run.parameters == {"folder": "data"}
    assert run.output() == (1, 2)
    assert run.metrics == {"load/rows": 5.0}
    assert [step.node for step in run.steps] == ["load", "train[x=1]", "train[x=2]"]


def test_a_step_tells_what_it_was(history):
    step = history.get(A).step("load")
    assert (step.status, step.reused, step.target, step.worker, step.attempts) == ("succeeded", False, "local", "w1", 2)
    assert (step.duration_s, step.parent_id, step.run_id) == (1.0, A, A)
    assert step.output() == {"rows": list(range(2000))}
    assert (step.metrics, step.params, step.tags) == ({"rows": 5.0}, {"n": "3", "mode": "fast"}, {"mine": "x"})
    assert step.failure is None
    assert history.get(A).step("train[x=2]").parents == ("load",)


def test_a_reused_step_shows_its_origin(history):
    step = history.get(B).step("load")
    assert step.reused
    assert (step.reused_from, step.reused_from_run) == (step_id(A, "load"), A)
    assert step.metrics == {"rows": 5.0}
    assert step.output() == {"rows": list(range(2000))}
    assert step.attempts == 0


def test_a_step_is_named_by_its_step_when_only_one_has_the_name(history):
    assert history.get(B).step("train").node == "train[x=1]"
    with pytest.raises(NotFoundError, match=r"2 steps 'train'; say which: 'train\[x=1\]', 'train\[x=2\]'"):
        history.get(A).step("train")
    with pytest.raises(NotFoundError, match=r"no step 'laod'; did you mean 'load'"):
        history.get(A).step("laod")


def test_a_failed_step_carries_its_failure_and_no_output(history):
    run = history.get(B)
    step = run.step("train")
    assert step.failure == BAD
    with pytest.raises(NotFoundError, match=r"'train\[x=1\]' has no output: it is failed \(ValueError: bad\)"):
        step.output()
    with pytest.raises(NotFoundError, match="has no output: it is failed"):
        run.output()
    text = run.failure_text()
    assert text.startswith(f"flights failed (run {B[:8]})")
    assert "step 'train[x=1]' failed: ValueError: bad" in text
    assert 'File "app.py", line 3' in text


def test_a_dead_run_is_shown_as_interrupted(workspace):
    dead = f"4194304:1@{this_process().partition('@')[2]}"  # of this boot; no pid is so high
    workspace.ledger.exchange([start(A, process=dead)], [], T0)
    assert workspace.runs.list()[0].status == "interrupted"
    assert "died" in workspace.runs.get(A).message


def test_cancelling_sets_the_flag_and_leaves_ended_runs_alone(history, workspace):
    assert history.cancel(C).cancel_requested
    assert workspace.ledger.heartbeat(C, T0).cancel_requested
    assert not history.cancel(A).cancel_requested


def test_the_last_success_before_a_run_is_what_explain_compares_with(history):
    before = history.last_successes("flights", before=B, nodes=["load", "other"])["load"]
    assert before.run_id == A
    assert before.code_digest == "c" * 64
    step = history.get(A).step("load")
    changes = compare(history.ingredients(step), history.ingredients(history.get(B).step("load")))
    assert [(change.kind, change.name) for change in changes] == [("function", "app.load"), ("input", "n")]


def test_last_successes_of_all_nodes_are_found_at_once(history):
    found = history.last_successes("flights")
    assert {node: last.run_id for node, last in found.items()} == {"load": B}


def test_counts_of_steps_by_status_come_for_many_runs_at_once(history):
    counts = history.counts(history.list())
    assert counts[A] == {Status.SUCCEEDED: 3}
    assert counts[B] == {Status.REUSED: 1, Status.FAILED: 1}
    assert counts[C] == {}
