"""Stations of one process share its room: no processor is given twice, and who asked first goes first."""

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
