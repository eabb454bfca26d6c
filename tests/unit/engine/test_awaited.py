from mlflow_pipes.engine.awaited import Awaited
from mlflow_pipes.model.run import Held

ONE, TWO = (Held("k", letter * 32, "host", "1:1") for letter in "ab")


def test_that_steps_wait_for_a_run_is_said_once_for_each_run():
    awaited = Awaited()
    assert awaited.wait("load", ONE) == "waits for run aaaaaaaa on host, which is computing the same"
    assert awaited.wait("load", ONE) == awaited.wait("train", ONE) == ""
    assert "bbbbbbbb" in awaited.wait("load", TWO)


def test_what_is_computed_here_because_another_run_gave_it_up_is_noted_on_each_step_and_said_once():
    awaited = Awaited()
    awaited.wait("load", ONE)
    awaited.wait("train", ONE)
    note = "run aaaaaaaa ended without its result, so it is computed here"
    assert awaited.take_over("load") == (note, f"waits no more: {note}")
    assert awaited.take_over("train") == (note, "")
    assert awaited.take_over("load") == ("", "")


def test_what_came_was_not_taken_over():
    awaited = Awaited()
    awaited.wait("load", ONE)
    awaited.came("load")
    assert awaited.take_over("load") == ("", "")
