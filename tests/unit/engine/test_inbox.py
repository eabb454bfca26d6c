"""The inbox, from other threads than the loop's."""

import sys
import threading

import pytest

from mlflow_pipes.engine.inbox import Inbox


@pytest.fixture
def threads_that_change_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("threads_that_change_often")
def test_who_wakes_an_inbox_while_it_closes_is_ignored():
    errors = []

    def wake(inbox):
        try:
            for _ in range(100):
                inbox.wake()
        except OSError as error:
            errors.append(error)

    for _ in range(300):
        inbox = Inbox()
        wakers = [threading.Thread(target=wake, args=(inbox,)) for _ in range(2)]
        for waker in wakers:
            waker.start()
        inbox.close()
        for waker in wakers:
            waker.join()
    assert not errors
