"""Runs in a situation: what a run configuration says holds for all of their steps, those that grow included."""

import os
import sys
from pathlib import Path

import pytest

from mlflow_pipes import RunConfiguration, RunFailed, Workspace, current_run, explain, pipeline, plan, resume, run, step
from mlflow_pipes.errors import ConfigurationError, DeclarationError

pytestmark = pytest.mark.integration

NIGHTLY = """
experiment = "nights"
priority = 3
fail_fast = false

[[rules]]
step = "leaf"
target = "other"

[targets.other]
type = "inline"

[environ]
MEASURED_AT = "night"

[tags]
when = "night"

[parameters.growing]
size = 2
folder = "marks"
"""


@step
def leaf(number: int) -> tuple[int, str]:
    return number, os.environ["MEASURED_AT"]


@step
def branch(size: int) -> list[tuple[int, str]]:
    return [leaf(number) for number in range(size)]


@step(reuse="never")
def fails_until(folder: Path) -> str:
    if not (folder / "mended").exists():
        raise ValueError("not yet")
    return current_run().pipeline


@pipeline
def growing(size: int, folder: Path) -> tuple[list[tuple[int, str]], str]:
    return branch(size), fails_until(folder)


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations" / "nightly.toml").write_text(NIGHTLY)
    (tmp_path / "pipes.toml").write_text("target = 'inline'\n")
    (tmp_path / "marks").mkdir()
    monkeypatch.chdir(tmp_path)
    with Workspace.open(tmp_path) as home:
        yield home


def test_a_run_and_those_that_resume_it_are_in_the_situation_that_was_named(home, tmp_path):
    with pytest.raises(RunFailed) as failed:
        run(growing, workspace=home, configuration="nightly", observers=())
    first = failed.value.run
    assert (first.experiment, first.target, first.parameters["size"]) == ("nights", "inline", "2")
    assert first.tags == {"pipes.configuration": "nightly", "when": "night"}
    placed = {one.node: (one.status, one.target) for one in first.steps}
    assert placed["branch/leaf[number=0]"] == ("succeeded", "other"), "fail_fast = false, and a rule for what grew"
    assert placed["branch"][1] == "inline"
    told = explain("branch/leaf[number=0]", run=first.id, workspace=home)
    rule = tmp_path / "configurations" / "nightly.toml"
    assert told.placement == f"on other, which was named by {rule}: rules[1] (others run on inline)"
    assert first.step("branch").named_by == ""

    (tmp_path / "marks" / "mended").touch()
    done = resume(first.id, workspace=home, observers=())
    assert done.output() == ([(0, "night"), (1, "night")], "growing")
    assert done.tags["pipes.configuration"] == "nightly"
    assert home.configuration.targets.keys() == {"inline", "local"}, "the workspace itself is as it was"


def test_what_the_call_says_comes_first(home):
    (home.folder.parent / "marks" / "mended").touch()
    done = run(
        growing(1, Path("marks")),
        workspace=home,
        configuration=RunConfiguration.load("nightly"),
        experiment="mine",
        tags={"when": "now"},
        target="inline",
        observers=(),
    )
    assert (done.experiment, done.tags["when"], done.parameters["size"]) == ("mine", "now", "1")
    assert {one.target for one in done.steps} == {"inline"}
    told = plan(growing(1, Path("marks")), workspace=home, configuration="nightly")
    assert told.step("branch").target == "inline"
    assert [one.target for one in told.steps if one.name == "leaf"] == ["other"], (
        "also where calls are known from before"
    )


def test_a_run_configuration_made_in_python_is_asked_for_again(home, tmp_path):
    made = RunConfiguration.of({"environ": {"MEASURED_AT": "noon"}}, name="noon")
    with pytest.raises(RunFailed) as failed:
        run(growing(1, Path("marks")), workspace=home, configuration=made, observers=())
    (tmp_path / "marks" / "mended").touch()
    with pytest.raises(DeclarationError, match=r"made in Python: give it again"):
        resume(failed.value.run.id, workspace=home, observers=())
    done = resume(failed.value.run.id, workspace=home, configuration=made, observers=())
    assert done.output()[0] == [(0, "noon")]


def test_nothing_runs_when_a_configuration_is_wrong(home, tmp_path):
    (tmp_path / "configurations" / "nightly.toml").write_text("[[rules]]\nstep = 'leaf'\ntarget = 'othr'")
    with pytest.raises(ConfigurationError, match=r"nightly\.toml: rules\[1\]: there is no target 'othr'"):
        run(growing(1, Path("marks")), workspace=home, configuration="nightly", observers=())
    assert home.runs.list() == []


@step
def colour(number: int) -> str:
    return os.environ.get("COLOUR", "none")


@step
def colours(number: int) -> list[str]:
    return [colour(number), colour.options(environment="default", name="plain")(number + 1)]


@pipeline
def coloured(number: int = 1) -> tuple[str, str, list[str]]:
    # Other numbers, other keys: variables of an environment are in no key.
    return colour(number), colour.options(environment="blue", name="blue")(number + 1), colours(number + 2)


def test_steps_that_name_no_environment_have_that_of_the_situation_where_it_is_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = f"interpreter = {sys.executable!r}"
    (tmp_path / "pipes.toml").write_text(
        f"[environments.own]\n{here}\nenviron = {{COLOUR = 'grey'}}\n"
        f"[environments.blue]\n{here}\nenviron = {{COLOUR = 'blue'}}\n"
    )
    red = RunConfiguration.of(
        {"environment": "own", "environments": {"own": {"interpreter": sys.executable, "environ": {"COLOUR": "red"}}}},
        name="red",
    )
    with Workspace.open(tmp_path) as home:
        done = run(coloured, workspace=home, configuration=red, observers=())
        assert done.output() == ("red", "blue", ["red", "none"])
        planned = plan(coloured, workspace=home, configuration=red)
        assert {one.action for one in planned.steps} == {"reuse"}
        assert plan(coloured, workspace=home).step("colour").action == "run"
