import logging
from contextlib import contextmanager

import pytest

from mlflow_pipes.worker.logs import info_written


@contextmanager
def root_logger(level=logging.WARNING):
    """The root logger as a user's process has it; no fixture, since pytest adds its handlers after those are made."""
    root = logging.getLogger()
    before = root.handlers, root.level
    root.handlers = []
    root.setLevel(level)
    try:
        yield root
    finally:
        root.handlers, level = before
        root.setLevel(level)


def test_the_level_is_lowered_until_the_last_of_several_has_ended():
    with root_logger() as root:
        first, second = info_written(), info_written()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert root.level == logging.INFO
        second.__exit__(None, None, None)
        assert root.level == logging.WARNING


@pytest.mark.parametrize("chosen", [logging.ERROR, logging.DEBUG])
def test_a_level_that_the_user_chose_stays(chosen):
    with root_logger(chosen) as root:
        with info_written():
            assert root.level == chosen
        assert root.level == chosen


def test_a_level_stays_where_the_user_configured_a_handler():
    with root_logger() as root:
        root.addHandler(logging.NullHandler())
        with info_written():
            assert root.level == logging.WARNING


def test_a_level_that_the_user_chooses_meanwhile_stays():
    with root_logger() as root:
        with info_written():
            root.setLevel(logging.ERROR)
        assert root.level == logging.ERROR
