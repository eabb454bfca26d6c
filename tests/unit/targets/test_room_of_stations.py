"""Stations of one process share its room: no processor is given twice, and who asked first goes first."""

import pytest

from mlflow_pipes.targets.station.gpu_locks import GpuLocks
from mlflow_pipes.targets.station.room import Room


class Asker:
    """A station, as far as the room knows it."""

    def __init__(self, room):
        self.room, self.woken = room, 0

    def take(self, cpus=1.0, gpus=0):
        return self.room.take(self, cpus, gpus, self._wake)

    def _wake(self):
        self.woken += 1


def test_two_stations_are_given_different_graphics_processors():
    room = Room(slots=4, gpus=2)
    one, other = Asker(room), Asker(room)
    assert one.take(gpus=1) == (0,)
    assert other.take(gpus=1) == (1,)
    assert one.take(gpus=1) is None
    room.give_back(1.0, (0,))
    assert one.woken
    assert one.take(gpus=1) == (0,)


def test_all_stations_together_get_no_more_than_there_is():
    room = Room(slots=2)
    one, other = Asker(room), Asker(room)
    assert one.take(cpus=2.0) == ()
    assert other.take(cpus=0.5) is None
    room.give_back(2.0, ())
    assert other.take(cpus=0.5) == ()
    assert one.take(cpus=0.5) == ()
    assert one.take(cpus=0.5) is None, "two run, however little they ask for"


def test_a_large_one_that_waits_is_not_overtaken_and_who_waits_behind_it_is_woken_when_it_leaves():
    room = Room(slots=2)
    large, small, other = Asker(room), Asker(room), Asker(room)
    assert other.take() == ()
    assert large.take(cpus=2.0) is None
    assert small.take() is None
    assert small.woken == 0
    room.leave(large)
    assert small.woken == 1
    assert small.take() == ()
    room.leave(large)
    assert small.woken == 1


@pytest.fixture
def sessions(tmp_path):
    """Rooms of two sessions on one machine with two graphics processors, as if in processes of their own."""
    rooms = [Room(slots=4, gpus=2, locks=GpuLocks(tmp_path / "gpus", ("0", "1"))) for _ in range(2)]
    return [Asker(room) for room in rooms]


def test_no_two_sessions_of_a_machine_have_one_graphics_processor(sessions):
    one, other = sessions
    assert one.take(gpus=1) == (0,)
    assert other.take(gpus=1) == (1,)
    assert one.take(gpus=1) is None
    assert one.room.waits_for_others, "nobody will wake it"
    other.room.give_back(1.0, (1,))
    assert one.take(gpus=1) == (1,)
    assert not one.room.waits_for_others


def test_who_cannot_have_all_that_it_asks_for_has_none(sessions):
    one, other = sessions
    assert one.take(gpus=1) == (0,)
    assert other.take(gpus=2) is None
    assert other.room.waits_for_others
    assert one.take(gpus=1) == (1,), "what the other one looked at is free"
    one.room.give_back(1.0, (0,))
    one.room.give_back(1.0, (1,))
    assert other.take(gpus=2) == (0, 1)


def test_who_waits_for_processors_waits_for_no_other_session(sessions):
    one, _ = sessions
    assert one.take(cpus=4.0, gpus=1) == (0,)
    assert one.take(gpus=1) is None
    assert not one.room.waits_for_others
