"""Exceptions become failures that show the user's frames first."""

import pytest

from mlflow_pipes.errors import DatastoreError
from mlflow_pipes.model.attempt import FailureKind
from mlflow_pipes.worker.failures import of_exception, traceback_text
from mlflow_pipes.worker.functions import FoundFunction
from mlflow_pipes.worker.secrets import Mask


def caught(function):
    """Raise through a frame of ours, as an attempt does."""
    try:
        FoundFunction(function, {}, None).call({})
    except BaseException as error:
        return error.with_traceback(error.__traceback__.tb_next)  # without the frame of this function
    raise AssertionError("nothing was raised")


def frames(text):
    return [line.rpartition(" ")[2] for line in text.splitlines() if line.lstrip(" |").startswith("File ")]


class OddError(ValueError):
    def __str__(self):
        raise RuntimeError("no text")


def deep(n):
    return deep(n - 1) if n else 1 / 0


def test_our_frames_above_the_users_are_left_out():
    text = traceback_text(caught(lambda: deep(1)))
    assert frames(text)[-2:] == ["deep", "deep"]
    assert "functions.py" not in text


def test_the_classes_are_named_from_special_to_general():
    failure = of_exception(caught(lambda: deep(0)))
    assert failure.exception == ("ZeroDivisionError", "ArithmeticError", "Exception", "BaseException")
    assert of_exception(OddError()).exception[0].endswith(".OddError")


def test_groups_are_shown_with_each_member():
    def work():
        raise ExceptionGroup("two failed", [ValueError("first"), TypeError("second")])

    text = traceback_text(caught(work))
    assert "first" in text
    assert "second" in text


def test_a_message_that_cannot_be_read_is_no_second_failure():
    assert "__str__ raised" in of_exception(OddError()).message


def test_a_message_of_many_lines_becomes_one():
    assert of_exception(ValueError("one\n  two\n")).message == "ValueError: one two"


def test_an_error_without_text_is_its_name():
    assert of_exception(KeyboardInterrupt()).message == "KeyboardInterrupt"


@pytest.mark.parametrize(("code", "shown"), [(3, "sys.exit(3)"), (None, "sys.exit()"), ("bad", "sys.exit('bad')")])
def test_sys_exit_is_told_as_what_it_is(code, shown):
    assert shown in of_exception(SystemExit(code)).message


def test_a_debugger_without_a_terminal_is_told_where_it_works():
    import bdb

    assert "--target inline" in of_exception(bdb.BdbQuit()).message


def test_the_way_of_an_import_is_left_out(tmp_path, monkeypatch):
    import importlib

    (tmp_path / "raises_when_imported.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = caught(lambda: importlib.import_module("raises_when_imported"))
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # as where a worker imports the user's file: no lambda
    assert frames(traceback_text(error)) == ["<module>"]


def test_the_world_is_blamed_for_its_errors():
    assert of_exception(DatastoreError("away")).kind is FailureKind.WORLD
    assert of_exception(ValueError()).kind is FailureKind.EXCEPTION


def test_a_huge_traceback_is_cut_in_the_middle():
    text = traceback_text(ValueError("x" * 1_000_000))
    assert len(text) < 70_000
    assert "characters left out" in text


def test_endless_recursion_is_told_shortly():
    def endless(n):
        return endless(n + 1)

    failure = of_exception(caught(lambda: endless(0)))
    assert "RecursionError" in failure.message
    assert len(failure.traceback) < 20_000


def test_secrets_are_masked_in_message_and_traceback():
    failure = of_exception(caught(lambda: int("hunter22")), mask=Mask(["hunter22"]))
    assert "hunter22" not in failure.message
    assert "invalid literal" in failure.message
    assert "***" in failure.message
