"""Sizes of targets as options, and waits in words."""

import click
import pytest

from mlflow_pipes.cli.critical_path import because, path_record
from mlflow_pipes.cli.sizes_given import sizes_given
from mlflow_pipes.cli.waits import wait_record, wait_text
from mlflow_pipes.model.run import Status
from mlflow_pipes.scheduling.critical_path import Link
from mlflow_pipes.workspace import StepRun
from mlflow_pipes.workspace.waiting import Wait


def step(target="local", reason=""):
    return StepRun(
        "i", "r" * 32, "train", "train", "step", Status.RUNNING, "r" * 32, 0, (), None, None, 0, target, "", None, reason,
        "", "", {}, {}, {}, None, False, "", None,
    )  # fmt: skip


def test_sizes_stand_after_the_name():
    assert sizes_given([]) == [("", {})]
    assert sizes_given(["local:16"]) == [("local:16", {"local": 16})]
    assert sizes_given(["gpu=cpus:8,memory:64GiB", "local:2"]) == [
        ("gpu=cpus:8,memory:64GiB local:2", {"gpu": {"cpus": 8.0, "memory": "64GiB"}, "local": 2})
    ]


def test_several_sizes_are_several_forecasts():
    assert sizes_given(["local:1,2", "gpu:1"]) == [
        ("local:1", {"local": 1, "gpu": 1}),
        ("local:2", {"local": 2, "gpu": 1}),
    ]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["local"], "say how large it is"),
        (["local:"], "say how large it is"),
        ([":3"], "say how large it is"),
        (["local:many"], "'many' is not a number of workers"),
        (["local:0"], "'0' is not a number of workers"),
        (["local:1,"], "'' is not a number of workers"),
        (["gpu=8"], "'8' is not KEY:SIZE"),
        (["gpu=cpus:eight"], "'eight' is not a number"),
        (["local:1,2", "gpu:1,2"], "only one target can have several sizes"),
        (["local:1", "local:2"], "given twice"),
        (["local:1,2", "local:3"], "given twice"),
    ],
)
def test_what_is_no_size_is_told(texts, told):
    with pytest.raises(click.BadParameter, match=told):
        sizes_given(texts)


@pytest.mark.parametrize(
    ("wait", "told"),
    [
        (Wait("inputs", 0.0, 2.0, ("load",)), "2.0 s for its inputs: load came last"),
        (Wait("inputs", 0.0, None, ("a", "b")), "9.0 s so far for its inputs: a, b have not ended"),
        (Wait("room", 0.0, 2.0, ("big",)), "2.0 s for room on local, until big ended"),
        (Wait("room", 0.0, None, ("big",)), "9.0 s so far for room on local: big is running there"),
        (Wait("room", 0.0, None), "9.0 s so far for room on local"),
        (Wait("retry", 0.0, None), "9.0 s so far for the next attempt: attempt 1 failed"),
        (Wait("retry", 0.0, 1.0), "1.0 s for the next attempt"),
        (Wait("key", 0.0, None, ("f" * 32,)), "9.0 s so far for run ffffffff, which is computing the same"),
        (Wait("key", 0.0, 1.0, ("r" * 32,)), "1.0 s for another step of this run, which was computing the same"),
        (Wait("key", 0.0, None, ("f" * 32,), certain=False), "which probably is computing the same"),
        (Wait("key", 0.0, None, certain=False), "its look-up: another step or run is computing the same"),
        (Wait("target", 0.0, 1.0), "1.0 s for local to begin"),
    ],
)
def test_a_wait_tells_how_long_and_for_what(wait, told):
    assert told in wait_text(wait, step(reason="attempt 1 failed"), 9.0)


def test_waits_and_paths_are_told_to_scripts():
    assert wait_record(Wait("room", 0.0, None, ("big",)), 9.0) == {
        "for": "room", "seconds": 9.0, "over": False, "on": ["big"], "certain": True,
    }  # fmt: skip
    link = Link("train", 12.0, 14.0, 1.0, "room", "big")
    assert path_record([link], 10.0) == [
        {
            "node": "train",
            "start_s": 2.0,
            "end_s": 4.0,
            "took_s": 2.0,
            "waited_s": 1.0,
            "because": "room",
            "after": "big",
        }
    ]
    assert because(link) == "waited for room, until big ended"
