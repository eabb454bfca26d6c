"""Runs that grow, as the terminal shows them: bounded however deep and wide, and failures where they began."""

import time

from mlflow_pipes.display.lines import MOST_LINES, run_lines, step_lines
from mlflow_pipes.display.look import Look, cells, plain_text
from mlflow_pipes.display.progress import RunProgress
from mlflow_pipes.display.summary import summary_lines
from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.blame import step_out_of_time
from mlflow_pipes.model.run import AttemptEnded, RunStarted, Status, StepChanged, StepDeclared

RUN = "3f2a91c0" + "0" * 24
LOOK = Look(width=100)


def deep(tell, levels):
    tell.start()
    for level in range(1, levels + 1):
        tell.declare(f"dig~{level}", parent=f"dig~{level - 1}" if level > 1 else None)
        tell.begin(f"dig~{level}")


def test_a_recursion_of_a_thousand_levels_is_drawn_in_the_room_there_is(told):
    progress, tell = told
    deep(tell, 1000)
    lines = run_lines(progress, LOOK, tell.now)
    assert len(lines) <= MOST_LINES + 1
    assert all(cells(LOOK.text(LOOK.cut(line))) <= 100 for line in lines)
    assert plain_text(lines).endswith("more step names")


def test_of_a_deep_failure_only_the_root_is_told(told):
    progress, tell = told
    deep(tell, 50)
    tell.fail("dig~50", "ValueError: rock")
    for level in range(49, 0, -1):
        tell.change(f"dig~{level}", Status.FAILED, reason=f"step 'dig~{level + 1}' failed")
    tell.end(Status.FAILED, "step 'dig~50' failed: ValueError: rock")
    text = plain_text(summary_lines(progress, LOOK, tell.now))
    assert text.count("ValueError: rock") == 1
    assert "dig~49" not in text
    assert "also failed" not in text


def test_of_steps_that_were_stopped_together_one_is_told_with_the_reason(told):
    progress, tell = told
    tell.start().declare("tree").begin("tree").declare("tree/a", "tree/b", parent="tree")
    why = step_out_of_time("tree", 2.0)
    killed = Failure(FailureKind.CANCELLED, "cancelled; its process was killed")
    for node in ("tree/a", "tree/b"):
        tell.observer.recorded([AttemptEnded(RUN, f"id-{node}", 1, tell.now, tell.now, failure=killed)])
        tell.begin(node).change(node, Status.FAILED, reason=why)
    tell.change("tree", Status.FAILED, reason=why).end(Status.FAILED)
    text = plain_text(summary_lines(progress, LOOK, tell.now))
    assert text.count("✗ tree") == 1
    assert text.count(why) == 1
    assert "process was killed" not in plain_text(step_lines(progress, LOOK, tell.now))


def seconds_for(items):
    progress = RunProgress()
    progress.record(RunStarted(RUN, "wide", "wide", 0.0))
    progress.record(StepDeclared(RUN, "map", "double", "double", "step", RUN))
    begin = time.process_time()
    for number in range(items):
        progress.record(StepDeclared(RUN, f"id{number}", f"double[x={number}]", "double", "step", "map"))
    for number in range(items):
        progress.record(StepChanged(RUN, f"id{number}", Status.RUNNING, 1.0))
        progress.record(StepChanged(RUN, f"id{number}", Status.SUCCEEDED, 2.0))
        if number % (items // 20) == 0:
            assert len(run_lines(progress, LOOK, 3.0)) <= MOST_LINES + 1
    return time.process_time() - begin


def test_fifty_thousand_items_cost_the_display_little():
    assert seconds_for(50_000) < 10
