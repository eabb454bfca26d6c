"""``retry_if``: the step's author decides, from the exception itself, whether another attempt is worth it."""

from pathlib import Path

import pytest

from mlflow_pipes import RetryPolicy, Workspace, run, step

SOON = RetryPolicy(count=3, delay_s=0.01)


def is_busy(error):
    return "busy" in str(error)


def is_broken(error):
    raise ZeroDivisionError("the predicate itself fails")


def tries(folder):
    made = Path(folder)
    (made / str(len(list(made.iterdir())))).touch()
    return len(list(made.iterdir()))


@step(retries=SOON, retry_if=is_busy, reuse="never")
def asked(folder: str, text: str) -> int:
    count = tries(folder)
    if count < 3:
        raise OSError(text)
    return count


@step(retries=SOON, retry_if=is_broken, reuse="never")
def asked_in_vain(folder: str) -> int:
    tries(folder)
    raise OSError("busy")


@step
def asking(folder: str) -> list:
    return [asked(folder, "busy")]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "attempts"
    made.mkdir()
    return made


@pytest.mark.parametrize("target", ["inline", "local"])
def test_a_step_is_tried_again_as_long_as_its_predicate_says_so(tmp_path, folder, target):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        done = run(asked(str(folder), "busy"), workspace=workspace, target=target, observers=())
    assert done.output() == 3


def test_an_exception_that_the_predicate_turns_down_is_final(tmp_path, folder):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        done = run(
            asked(str(folder), "gone"), workspace=workspace, target="inline", observers=(), raise_on_failure=False
        )
    assert done.status == "failed"
    assert len(list(folder.iterdir())) == 1


def test_a_predicate_that_fails_ends_the_attempts_and_says_so(tmp_path, folder):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        done = run(
            asked_in_vain(str(folder)), workspace=workspace, target="inline", observers=(), raise_on_failure=False
        )
        assert done.status == "failed"
        assert len(list(folder.iterdir())) == 1
        assert any("the predicate itself fails" in told for _, told in done.warnings)


def test_a_call_that_a_step_returned_keeps_its_predicate(tmp_path, folder):
    with Workspace.open(tmp_path / ".pipes") as workspace:
        assert run(asking(str(folder)), workspace=workspace, target="local", observers=()).output() == [3]
