import gc

import pytest

from mlflow_pipes.machine.garbage import collected_rarely


@pytest.fixture(autouse=True)
def _thresholds_as_they_were():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_garbage_is_looked_for_less_often_until_the_last_of_several_has_ended():
    gc.set_threshold(700, 10, 10)
    first, second = collected_rarely(), collected_rarely()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold()[0] > 700
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("usual", [0, 1_000_000])
def test_who_has_it_off_or_rarer_still_is_left_alone(usual):
    gc.set_threshold(usual, 10, 10)
    with collected_rarely():
        assert gc.get_threshold()[0] == usual
