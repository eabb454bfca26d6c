import time

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.display.progress import SHOWN_MEMBERS, RunProgress
from mlflow_pipes.model.run import RunStarted, Status, StepChanged, StepDeclared


def test_counts_follow_the_records(told):
    progress, tell = told
    tell.start().declare("a", "b", "c").begin("a").reuse("b")
    assert progress.counts[Status.RUNNING] == progress.counts[Status.REUSED] == progress.counts[Status.WAITING] == 1
    assert progress.ended == 1
    assert set(progress.running) == {"a"}
    tell.succeed("a").fail("c")
    assert not progress.running
    assert progress.ended == progress.total == 3
    assert [step.node for step in progress.failures] == ["c"]


def test_a_start_that_arrives_after_the_end_changes_nothing(told):
    progress, tell = told
    tell.start().declare("a").begin("a").succeed("a")
    from mlflow_pipes.model.attempt import AttemptId, AttemptStarted

    progress.event(AttemptStarted(AttemptId("r", "a", 1), 1.0))
    assert progress.counts[Status.SUCCEEDED] == 1
    assert not progress.running


def test_records_of_steps_that_were_never_declared_are_ignored(told):
    progress, tell = told
    tell.start().succeed("ghost").progress("ghost", 1, 2).track("ghost", rmse=1.0)
    assert progress.total == 0


def test_sub_pipelines_count_as_no_steps(told):
    progress, tell = told
    tell.start().declare("prep", kind="pipeline").declare("prep/scale", parent="prep")
    assert progress.total == 1
    tell.change("prep", Status.RUNNING).begin("prep/scale").succeed("prep/scale").succeed("prep")
    assert progress.ended == 1


def test_the_steps_that_are_expected_count_before_they_are_declared():
    assert RunProgress(expected=7).total == 7


def test_only_the_first_calls_of_a_step_are_kept_one_by_one(told):
    progress, tell = told
    tell.start().declare(*[f"score[{i}]" for i in range(500)])
    (name,) = progress.top
    assert name.total == 500
    assert len(name.members) == SHOWN_MEMBERS


def test_children_of_all_calls_of_one_step_share_a_line(told):
    progress, tell = told
    tell.start().declare(*[f"split[{i}]" for i in range(30)])
    for i in range(30):
        tell.declare(f"split[{i}]/part", parent=f"split[{i}]")
    (split,) = progress.top
    (part,) = split.children
    assert part.total == 30
    assert part.depth == 1


def test_not_a_number_is_no_metric_to_show(told):
    progress, tell = told
    tell.start().declare("a").track("a", loss=float("nan"), rmse=2.0)
    assert progress.metrics == {"a": {"rmse": 2.0}}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(Status))), max_size=60))
def test_counts_always_add_up_to_what_is_declared(changes):
    progress = RunProgress()
    progress.record(RunStarted("r", "p", "p", 0.0))
    for i in range(6):
        progress.record(StepDeclared("r", f"i{i}", f"s[{i}]", "s", "step", "r"))
    for moment, (i, status) in enumerate(changes):
        progress.record(StepChanged("r", f"i{i}", status, float(moment)))
    assert sum(progress.counts.values()) == 6
    assert min(progress.counts.values()) >= 0
    (name,) = progress.top
    assert name.counts == progress.counts
    assert len(progress.running) == progress.counts[Status.RUNNING]


def test_a_record_costs_the_same_in_a_run_of_twenty_thousand_steps():
    progress = RunProgress()
    progress.record(RunStarted("r", "p", "p", 0.0))
    count = 20_000
    declared = [StepDeclared("r", f"i{i}", f"s[{i}]", "s", "step", "r") for i in range(count)]
    changed = [StepChanged("r", f"i{i}", Status.SUCCEEDED, 1.0) for i in range(count)]
    began = time.process_time()
    for record in [*declared, *changed]:
        progress.record(record)
    assert time.process_time() - began < 1.0  # 0.1 s here; the bound only catches what grows with the run
