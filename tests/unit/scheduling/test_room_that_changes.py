"""A target that grows or shrinks while a run is under way."""

import math

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.placement import TargetRoom


def begun(room):
    nodes = []
    while (node := room.take()) is not None:
        nodes.append(node)
    return nodes


def room_with(capacity, count, **options):
    room = TargetRoom("cluster", capacity)
    for number in range(count):
        room.offer(f"n{number}", (0, 0.0, number), StepOptions(**options))
    return room


def test_more_begins_when_a_target_grows():
    room = room_with(Capacity(cpus=math.inf, slots=1), 4)
    assert begun(room) == ["n0"]
    room.resize(Capacity(cpus=math.inf, slots=3))
    assert begun(room) == ["n1", "n2"]


def test_nothing_begins_until_what_a_smaller_target_cannot_hold_has_ended():
    room = room_with(Capacity(cpus=3, slots=3), 5)
    assert begun(room) == ["n0", "n1", "n2"]
    room.resize(Capacity(cpus=1, slots=1))
    for node in ("n0", "n1"):
        room.release(node)
        assert begun(room) == []
    room.release("n2")
    assert begun(room) == ["n3"]


def test_room_is_as_it_was_after_shrinking_and_growing():
    room = room_with(Capacity(cpus=2, slots=2, memory_bytes=10), 3, memory_bytes=5)
    assert begun(room) == ["n0", "n1"]
    room.resize(Capacity(cpus=1, slots=1, memory_bytes=5))
    room.resize(Capacity(cpus=2, slots=2, memory_bytes=10))
    assert begun(room) == []
    room.release("n0")
    assert begun(room) == ["n2"]


def test_graphics_processors_that_went_away_are_not_given_again():
    room = room_with(Capacity(cpus=9, slots=9, gpus=2), 4, gpus=1)
    assert begun(room) == ["n0", "n1"]
    room.resize(Capacity(cpus=9, slots=9, gpus=1))
    room.release("n1")
    assert begun(room) == []
    room.release("n0")
    assert begun(room) == ["n2"]
    assert room.gpus_of("n2") == (0,)


def test_a_target_that_gives_graphics_processors_itself_is_told_how_many():
    room = room_with(Capacity(cpus=9, slots=9, gpus=math.inf), 2, gpus=2)
    assert begun(room) == ["n0", "n1"]
    assert [len(room.gpus_of(node)) for node in ("n0", "n1")] == [2, 2]
