"""Requirements, as they are read and locked; the shelf, without building anything."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_pipes import Environment
from mlflow_pipes.environments import conda, requirements
from mlflow_pipes.environments.containers import command_of
from mlflow_pipes.environments.environments import Environments
from mlflow_pipes.environments.shelf import Recipe, Shelf
from mlflow_pipes.errors import ConfigurationError, NotFoundError, WorldError
from mlflow_pipes.testing.target_contract import alive

RECIPE = Recipe("k" * 64, "small", "requirements", packages={"toolz": "1.0.0"})


def test_requirement_files_are_read_with_what_they_include(tmp_path):
    (tmp_path / "base.txt").write_text("numpy==2.0.1 --hash=sha256:00 \\\n  --hash=sha256:11\n-r requirements.txt\n")
    (tmp_path / "limits.txt").write_text("scipy<2\n")
    (tmp_path / "requirements.txt").write_text("# comment\n-r base.txt\npandas>=2  # why\n--pre\n-c limits.txt\n")
    lines = list(requirements._lines_of(Environment(requirements="requirements.txt"), tmp_path))
    limits = tmp_path / "limits.txt"
    assert lines == ["numpy==2.0.1", "pandas>=2", "--pre", f"-c {limits}", "# scipy<2"]
    assert requirements._options(lines) == ("--pre",)


def test_what_uv_and_pip_tell_is_read(tmp_path):
    told = "numpy==2.0.1\nscikit_learn==1.5.0 ; sys_platform == 'linux'\ntoolz @ https://example.org/toolz-1.zip\n"
    packages = dict(requirements._pinned(told.splitlines()))
    assert packages == {"numpy": "2.0.1", "scikit-learn": "1.5.0", "toolz": "https://example.org/toolz-1.zip"}
    report = {
        "install": [
            {"metadata": {"name": "numpy", "version": "2.0.1"}, "download_info": {"url": "https://a"}},
            {
                "metadata": {"name": "Toolz", "version": "1"},
                "download_info": {"url": "git+https://b", "vcs_info": {"commit_id": "c0de"}},
                "is_direct": True,
            },
        ]
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert dict(requirements._reported(tmp_path / "report.json")) == {"numpy": "2.0.1", "toolz": "git+https://b@c0de"}
    lock = requirements.Lock(packages, ("--pre",))
    assert lock.text.splitlines()[:2] == ["--pre", "numpy==2.0.1"]
    assert dict(requirements._pinned(lock.text.splitlines())) == packages


@pytest.mark.parametrize("local", ["-e .", "./lib", "../lib", "lib @ file:///lib", "/lib/lib.whl"])
def test_local_packages_are_refused(tmp_path, local):
    environments = Environments(tmp_path / "built", tmp_path)
    with pytest.raises(ConfigurationError, match="is a local package"):
        environments.resolve(Environment(requirements=["toolz", local]))


def test_files_and_interpreters_that_are_not_there_are_named(tmp_path):
    environments = Environments(tmp_path / "built", tmp_path)
    for absent in (
        Environment(requirements="requirements.txt"),
        Environment(conda="environment.yml"),
        Environment(interpreter="nowhere/bin/python"),
    ):
        with pytest.raises(NotFoundError, match=str(tmp_path)):
            environments.resolve(absent)


def test_a_name_that_is_not_configured_is_told_with_the_near_one(tmp_path):
    environments = Environments(tmp_path, tmp_path, {"training": Environment(image="python")})
    with pytest.raises(ConfigurationError, match=r"step 'a' named environment 'trainig'.*did you mean 'training'"):
        environments.resolve("trainig", "step 'a'")


def test_without_the_programs_it_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "environment.yml").write_text("dependencies: [python=3.11]\n")
    environments = Environments(tmp_path / "built", tmp_path)
    with pytest.raises(ConfigurationError, match="install micromamba"):
        environments.resolve(Environment(conda="environment.yml"))
    with pytest.raises(ConfigurationError, match="apt-get install podman"):
        environments.resolve(Environment(image="python:3.11"))


def test_an_explicit_conda_list_is_a_lock(tmp_path):
    lines = ["https://conda.anaconda.org/conda-forge/linux-64/python-3.12.4-h194c7f8_0_cpython.conda#0", "# other"]
    (tmp_path / "explicit.txt").write_text("\n".join(["# created by conda", "@EXPLICIT", *lines, ""]))
    explicit = conda.locked(Environment(conda="explicit.txt"), tmp_path, tmp_path)
    assert conda.packages_in(explicit) == {"python": "3.12.4=h194c7f8_0_cpython"}


def test_conda_itself_takes_locked_lists_only(tmp_path, monkeypatch):
    program = tmp_path / "conda"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "environment.yml").write_text("dependencies: [python=3.11]\n")
    with pytest.raises(ConfigurationError, match="conda list --explicit"):
        conda.locked(Environment(conda="environment.yml"), tmp_path, tmp_path / "known")


def test_a_pip_section_in_a_conda_file_is_refused(tmp_path):
    (tmp_path / "environment.yml").write_text("dependencies:\n- python\n- pip:\n  - toolz\n")
    with pytest.raises(ConfigurationError, match="pip: section"):
        conda.locked(Environment(conda="environment.yml"), tmp_path, tmp_path)


def test_a_container_sees_the_folders_and_variables_that_workers_need():
    command = command_of(
        "podman", "image", "/usr/bin/python", ["-c", "code"], {"A": "b", "PATH": "/bin"}, ["/p", "/p/q"]
    )
    assert command[-4:] == ["/usr/bin/python", "image", "-c", "code"]
    assert "--env=A" in command
    assert "--env=PATH" not in command
    assert [one for one in command if one.startswith("--volume")] == ["--volume=/p:/p"]


# --- the shelf -------------------------------------------------------------------------------------------------------


def make(place: Path) -> None:
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").write_text(str(os.getpid()))


def build_in_process(folder: str) -> bool:
    return Shelf(Path(folder)).build(RECIPE, make)


def test_of_processes_that_build_the_same_one_does(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        built = pool.map(build_in_process, [str(tmp_path)] * 6)
    assert sorted(built) == [False] * 5 + [True]
    assert Shelf(tmp_path).is_built(RECIPE.key)


def test_what_was_left_half_built_is_removed_and_built_anew(tmp_path):
    shelf = Shelf(tmp_path)
    place = shelf.place(RECIPE.key)
    place.mkdir(parents=True)
    (place / "rest").touch()
    assert not shelf.is_built(RECIPE.key)
    assert [one.whole for one in shelf.listing()] == [False]
    assert shelf.build(RECIPE, make)
    assert not (place / "rest").exists()
    (built,) = shelf.listing()
    assert (built.whole, built.name, built.packages) == (True, "small", {"toolz": "1.0.0"})


def test_nothing_is_left_of_what_cannot_be_built(tmp_path):
    def fail(place: Path) -> None:
        place.mkdir()
        raise WorldError("no such package")

    with pytest.raises(WorldError, match="no such package"):
        Shelf(tmp_path).build(RECIPE, fail)
    assert Shelf(tmp_path).listing() == []


def test_an_environment_whose_interpreter_went_away_is_built_anew(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.build(RECIPE, make)
    (shelf.place(RECIPE.key) / "bin" / "python").unlink()
    assert shelf.build(RECIPE, make)


def test_what_was_not_used_for_long_is_collected(tmp_path):
    environments = Environments(tmp_path, tmp_path)
    shelf = Shelf(tmp_path)
    shelf.build(RECIPE, make)
    (tmp_path / ("h" * 32)).mkdir()  # half-built
    assert [one.whole for one in environments.collect(1.0)] == [False]
    os.utime(shelf.place(RECIPE.key) / "built.json", (0, 0))
    assert [one.name for one in environments.collect(1.0, dry_run=True)] == ["small"]
    assert [one.name for one in environments.collect(1.0)] == ["small"]
    assert environments.built() == []


def test_environments_are_removed_by_name_or_by_the_beginning_of_their_key(tmp_path):
    environments = Environments(tmp_path, tmp_path)
    for name in ("small", RECIPE.key[:6]):
        Shelf(tmp_path).build(RECIPE, make)
        assert [one.name for one in environments.remove(name)] == ["small"]
    with pytest.raises(NotFoundError, match="no environment 'small'"):
        environments.remove("small")


SLOW_BUILD = """
import sys
from pathlib import Path
from mlflow_pipes.environments.programs import output_of
from mlflow_pipes.environments.shelf import Recipe, Shelf

def make(place):
    place.mkdir()
    (place / "begun").touch()
    output_of(["sh", "-c", f"echo $$ > {place.parent}/pid; exec sleep 60"], what="it")

Shelf(Path(sys.argv[1])).build(Recipe("k" * 64, "small", "requirements"), make)
"""


def test_a_builder_that_is_killed_leaves_nobody_who_builds_on(tmp_path):
    builder = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60.0
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        program = int((tmp_path / "pid").read_text())
    finally:
        builder.kill()
        builder.wait()
    assert Shelf(tmp_path).build(RECIPE, make)  # waits until the program, which holds the lock too, is gone
    assert not (Shelf(tmp_path).place(RECIPE.key) / "begun").exists()
    assert not alive(program)
