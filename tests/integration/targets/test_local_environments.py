"""Attempts in environments on the local target: crews beside each other, environments that do not start."""

import sys
import sysconfig
import textwrap
import time
from dataclasses import replace

import pytest

from mlflow_pipes import content
from mlflow_pipes.errors import TargetError
from mlflow_pipes.model.attempt import AttemptId, AttemptSucceeded, FailureKind
from mlflow_pipes.model.environment import ResolvedEnvironment
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.local import LocalTarget
from mlflow_pipes.targets.local.crews import carried
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported

pytestmark = pytest.mark.integration

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def store(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


@pytest.fixture
def local(store, tmp_path):
    folders = {"checkout": tmp_path / "checkout", "scratch": tmp_path / "scratch"}
    with driving(LocalTarget("local", store, workers=1, **folders)) as driver:
        yield driver


@pytest.fixture
def colour(tmp_path):
    file = tmp_path / "colour_of_environments.py"
    file.write_text("import os\ndef colour(x):\n    return os.environ.get('COLOUR', 'none')\n")
    return imported(file, "colour")


def environment(*command: str, name: str = "red", python: str = MINOR) -> ResolvedEnvironment:
    started_by = command or (sys.executable,)
    return ResolvedEnvironment(name, "interpreter", name, python, command=started_by, environ={"COLOUR": name})


def script(file, text):
    file.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    file.chmod(0o755)
    return str(file)


def test_workers_of_one_environment_give_way_to_those_of_another(local, store, colour):
    found = []
    for number, one in enumerate([None, environment(), environment(name="blue"), None, environment()]):
        ended = local.run(assignment_of(colour, store, {"x": number}, environment=one))
        assert isinstance(ended, AttemptSucceeded), ended
        found.append(content.load(ended.output, store))
        assert len(local.target._crews.links()) <= 1
    assert found == ["none", "red", "blue", "none", "red"]


def test_an_environment_that_does_not_start_fails_its_attempts_and_no_others(local, store, colour, tmp_path):
    command = script(tmp_path / "python", "echo 'no network' >&2\nexit 3\n")
    broken = assignment_of(colour, store, {"x": 1}, environment=environment(command))
    plain = assignment_of(colour, store, {"x": 2})
    local.target.submit(broken)
    local.target.submit(plain)
    failed = local.answer(broken.attempt)
    assert failed.failure.kind is FailureKind.WORLD
    assert "in environment 'red' end before they are ready" in failed.failure.message
    assert "no network" in failed.failure.message
    assert isinstance(local.answer(plain.attempt), AttemptSucceeded)
    with pytest.raises(TargetError, match="no network"):
        local.target.submit(assignment_of(colour, store, {"x": 3}, environment=environment(command)))

    script(tmp_path / "python", f'exec {sys.executable} "$@"\n')
    again = AttemptId(broken.attempt.run_id, broken.attempt.node, 2)
    retried = assignment_of(colour, store, {"x": 1}, environment=environment(command))
    ended = local.run(replace(retried, attempt=again))
    assert isinstance(ended, AttemptSucceeded), ended


def test_an_interpreter_that_is_not_the_one_that_was_resolved_is_refused(local, store, colour):
    other = environment(python="3.9")
    failed = local.run(assignment_of(colour, store, {"x": 1}, environment=other))
    assert failed.failure.kind is FailureKind.WORLD
    assert f"Python is {MINOR} here, not 3.9" in failed.failure.message


def test_an_attempt_is_cancelled_while_its_environment_is_built(local, store, colour, tmp_path):
    building = environment(script(tmp_path / "python", "exec sleep 60\n"))
    assignment = assignment_of(colour, store, {"x": 1}, environment=building)
    local.target.submit(assignment)
    local.target.cancel(assignment.attempt)
    assert local.answer(assignment.attempt).failure.kind is FailureKind.CANCELLED
    began = time.monotonic()
    local.target.close()
    assert time.monotonic() - began < 30.0


def test_another_interpreter_has_the_users_folders_and_nothing_that_is_installed_here():
    library = sysconfig.get_path("stdlib")
    path = [
        "/work/project",
        library,
        f"{library}/lib-dynload",
        f"{library}/site-packages",
        f"{sys.prefix}/lib/python.zip",
    ]
    assert carried(path) == ["/work/project"]
