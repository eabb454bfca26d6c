"""Parts of the local target that need no worker."""

import os
import socket
import subprocess
import sys
import time

import pytest

from mlflow_pipes.machine import capacity
from mlflow_pipes.machine.processes import identity
from mlflow_pipes.targets.local import process_trees, wire
from mlflow_pipes.targets.local.gpus import named_gpus


def test_messages_arrive_whole_however_they_are_cut():
    messages = [wire.Ready(1), wire.Line("x" * 1000, 2.0), wire.Release(3)]
    stream = b"".join(map(wire.encode, messages))
    for size in (1, 7, 500, len(stream)):
        frames = wire.Frames()
        found = [message for at in range(0, len(stream), size) for message in frames.feed(stream[at : at + size])]
        assert found == messages


def test_a_message_that_comes_alone_is_read_without_copying_first():
    assert wire.Frames().feed(wire.encode(wire.Ready(5))) == [wire.Ready(5)]


def test_the_end_of_a_connection_is_told():
    ours, theirs = socket.socketpair()
    theirs.sendall(wire.encode(wire.Ready(1)))
    theirs.close()
    frames = wire.Frames()
    assert wire.receive(ours, frames) == [wire.Ready(1)]
    assert wire.receive(ours, frames) is None
    ours.close()


def test_processors_are_bounded_by_the_containers_quota(tmp_path):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert capacity.processors(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert capacity.processors(tmp_path) == len(os.sched_getaffinity(0))


def test_quotas_of_old_containers_are_known(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert capacity.processors(tmp_path) == 1
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    assert capacity.processors(tmp_path) == len(os.sched_getaffinity(0))


def test_memory_is_bounded_by_the_containers_limit(tmp_path):
    everything = capacity.memory_bytes(tmp_path)
    assert everything > 0
    (tmp_path / "memory.max").write_text("1048576\n")
    assert capacity.memory_bytes(tmp_path) == 1_048_576
    (tmp_path / "memory.max").write_text("max\n")
    assert capacity.memory_bytes(tmp_path) == everything


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ("0,1", ("0", "1")),
        (" GPU-1a2b ,3", ("GPU-1a2b", "3")),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("NoDevFiles", ("NoDevFiles",)),
    ],
)
def test_the_environment_tells_which_gpus_may_be_used(told, names):
    assert capacity.gpus({"CUDA_VISIBLE_DEVICES": told}) == names


def test_the_driver_tells_how_many_gpus_there_are(tmp_path):
    driver = tmp_path / "gpus"
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (driver / bus).mkdir(parents=True)
    assert capacity.gpus({}, driver) == ("0", "1")


def test_where_the_driver_does_not_tell_its_program_is_asked(tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1 $2" = "--query-gpu=index --format=csv,noheader" ] && printf "0\\n1\\n2\\n"\n')
    program.chmod(0o755)
    assert capacity.gpus({"PATH": str(tmp_path)}, tmp_path / "none") == ("0", "1", "2")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert capacity.gpus({"PATH": str(tmp_path)}, tmp_path / "none") == ()
    assert capacity.gpus({"PATH": ""}, tmp_path / "none") == ()


def test_gpus_beyond_those_that_are_found_are_called_by_their_numbers(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [named_gpus(count) for count in (None, 0, 1, 2, 3)] == [
        ("4", "7"),
        (),
        ("4",),
        ("4", "7"),
        ("0", "1", "2"),
    ]


def test_a_tree_of_processes_is_killed_whole():
    program = "import subprocess,sys;p=subprocess.Popen(['sleep','60'],start_new_session=True);print(p.pid,flush=True);p.wait()"
    leader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    child = int(leader.stdout.readline())
    assert process_trees.descendants(leader.pid) == {child}
    process_trees.kill_tree(leader.pid)
    leader.wait()
    leader.stdout.close()
    end = time.monotonic() + 30
    while identity(child) is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not process_trees.kill_survivors(leader.pid)
    assert identity(leader.pid) is None
