"""``--config NAME`` of run and plan."""

import json
import sys

import pytest

from mlflow_pipes.cli.app import run as pipes

FLOW = """
import datetime as dt
from pathlib import Path
from mlflow_pipes import pipeline, step

@step
def load(rows: int, day: dt.date) -> list[int]:
    return list(range(rows))

@step(tags={"size": "large"})
def train(rows: list[int], depth: int) -> int:
    return sum(rows) * depth

@step(gpus=7)
def huge(rows: int) -> int:
    return rows

@pipeline
def flow(rows: int, depths: tuple[int, ...] = (1,), day: dt.date = dt.date(2013, 1, 1)):
    loaded = load(rows, day)
    return [train(loaded, depth) for depth in depths]

@pipeline
def too_big():
    return huge(1)
"""
NIGHTLY = """
[[rules]]
tags = { size = "large" }
target = "two"

[targets.two]
type = "local"
workers = 2

[parameters.flow]
rows = 3
depths = [4, 8]
day = "2013-01-31"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations" / "nightly.toml").write_text(NIGHTLY)
    (tmp_path / "pipes.toml").write_text("")
    (tmp_path / "flow_of_nights.py").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("flow_of_nights", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def planned(capsys, *args):
    code = pipes(["plan", "flow_of_nights.py:flow", "--config", "nightly", "--json", *args])
    said = capsys.readouterr()
    assert code == 0, said.err
    return {step["node"]: step for step in json.loads(said.out)["steps"]}


def test_parameters_that_are_not_given_come_from_it_and_rules_say_where(project, capsys):
    steps = planned(capsys)
    assert [(node, step["target"]) for node, step in steps.items()] == [
        ("load", "local"), ("train[depth=4]", "two"), ("train[depth=8]", "two"),
    ]  # fmt: skip
    assert steps["train[depth=4]"]["target_named_by"].endswith("nightly.toml: rules[1]")


def test_what_is_given_comes_first(project, capsys):
    steps = planned(capsys, "--depths", "2", "--target", "inline")
    assert [(node, step["target_named_by"]) for node, step in steps.items()] == [
        ("load", "the call"), ("train", "the call"),
    ]  # fmt: skip


def test_people_are_shown_where_steps_go_when_they_go_to_several_targets(project, capsys):
    assert pipes(["plan", "flow_of_nights.py:flow", "--config", "nightly"]) == 0
    assert "where" in capsys.readouterr().out
    assert pipes(["plan", "flow_of_nights.py:flow", "--rows", "2"]) == 0
    assert "where" not in capsys.readouterr().out


def test_a_forecast_sends_steps_where_a_run_would(project, capsys):
    line = "simulate flow_of_nights.py:flow --config nightly --cold --json"
    assert pipes(line.split()) == 0
    (forecast,) = json.loads(capsys.readouterr().out)["forecasts"]
    assert [(one["name"], one["workers"], one["steps"]) for one in forecast["targets"]][-1] == ("two", 2, 2)


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("plan flow_of_nights.py:flow --config nigthly", 4, "did you mean 'nightly'"),
        ("plan flow_of_nights.py:flow", 2, "--rows"),
        ("plan flow_of_nights.py:flow --rows 1 --target inlin", 2, "'inlin'; did you mean 'inline'"),
        ("plan flow_of_nights.py:too_big --config nightly", 2, "gpus=7, but target 'local' has"),
        ("run flow_of_nights.py:too_big", 2, "gpus=7, but target 'local' has"),
    ],
)
def test_mistakes_end_with_their_exit_code(project, capsys, line, code, told):
    assert pipes(line.split()) == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("rows = 3\nday = 'monday'", "parameters.flow.day: 'monday' is not a date"),
        ("rows = 3\ndepth = 4", "parameters.flow.depth: the pipeline has no such parameter; did you mean 'depths'"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_file(project, capsys, wrong, told):
    (project / "configurations" / "nightly.toml").write_text(f"[parameters.flow]\n{wrong}")
    assert pipes(["plan", "flow_of_nights.py:flow", "--config", "nightly"]) == 2
    assert f"nightly.toml: {told}" in capsys.readouterr().err
