"""Steps in environments that are really built, on the local target.

Two tiny ones are built here for the whole suite: one by uv, as a run builds it; one by pip.
"""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_pipes import Environment, RunFailed, Workspace, plan, run, step
from mlflow_pipes import explain as explained
from mlflow_pipes.cli import app as cli
from mlflow_pipes.environments import requirements
from mlflow_pipes.environments.shelf import Shelf
from mlflow_pipes.errors import ConfigurationError, WorldError
from mlflow_pipes.workspace.configuration import Configuration
from mlflow_pipes.workspace.logs import read_log
from mlflow_pipes.workspace.target_configuration import TargetConfiguration
from tests.integration.environments.steps_elsewhere import grows, here, reaches, several, versions

pytestmark = pytest.mark.integration

SMALL = Environment(requirements=["toolz==1.0.0"], environ={"COLOUR": "red"}, name="small")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project's folder; its workspace has the locks, so that each test need not ask the package index."""
    folder = tmp_path_factory.mktemp("project")
    try:
        Workspace(configuration(folder)).environments.resolve("small")
    except WorldError as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    return folder


@pytest.fixture(scope="module")
def old(project):
    """An environment that pip locked and built, as an interpreter."""
    declared = Environment(requirements=["toolz==0.12.1"], name="old")
    lock = requirements.Lock(requirements.resolved("toolz==0.12.1\n", declared, project, tool=""))
    assert lock.packages == {"toolz": "0.12.1"}
    recipe = replace(requirements.recipe(declared, lock, sys.executable, sysconfig.get_python_version()), tool="")
    shelf = Shelf(project / "shelf")
    shelf.build(recipe, lambda place: requirements.build(recipe, place))
    return Environment(interpreter=str(shelf.place(recipe.key)), name="old")


def configuration(folder: Path, **environments: Environment) -> Configuration:
    return Configuration(
        folder=folder,
        workspace=folder / ".pipes",
        environments={"small": SMALL, **environments},
        targets={
            "local": TargetConfiguration("local", "local", {"workers": 2}),
            "inline": TargetConfiguration("inline", "inline"),
        },
    )


@pytest.fixture
def home(project):
    with Workspace.open(configuration=configuration(project)) as opened:
        yield opened


def test_an_environment_is_built_by_the_first_run_that_needs_it_and_its_results_are_reused(home):
    assert [(build.name, build.nodes) for build in plan(versions(1), workspace=home).builds] == [
        ("small", ("versions",))
    ]
    done = run(versions(1), workspace=home, observers=())
    found = done.output()
    assert (found["toolz"], found["colour"]) == ("1.0.0", "red")
    assert found["prefix"].startswith(str(home.folder / "environments"))
    told = [line.text for line in read_log(home.folder, done.id)]
    assert told == ["environment 'small' is not there yet; it is built first", "toolz 1.0.0"]

    assert plan(versions(1), workspace=home).builds == ()
    (again,) = run(versions(1), workspace=home, observers=()).steps
    assert again.reused
    (other,) = run(versions(2), workspace=home, observers=()).steps
    assert not other.reused


def test_a_name_is_in_no_key_and_a_version_is(home, project):
    first = run(versions(3), workspace=home, observers=())
    renamed = configuration(project, other=replace(SMALL, name="other", environ={}))
    with Workspace.open(configuration=renamed) as again:
        assert run(versions.options(environment="other")(3), workspace=again, observers=()).steps[0].reused

    changed = configuration(project, small=Environment(requirements=["toolz==0.12.1"], name="small"))
    with Workspace.open(configuration=changed) as later:
        (planned,) = plan(versions(3), workspace=later).steps
        assert (planned.action, planned.reason) == ("run", "environment changed: toolz 1.0.0 → 0.12.1")
    assert explained("versions", run=first.id, workspace=home).reason.startswith("it ran because")


def test_environments_share_the_places_of_their_target(project, old):
    with Workspace.open(configuration=configuration(project, old=old)) as home:
        found = run(several(), workspace=home, observers=()).output()
    assert [one["toolz"] for one in found[:6]] == ["0.12.1"] * 3 + ["1.0.0"] * 3
    assert found[6:] == [sys.prefix] * 3


def test_what_a_step_returns_runs_in_its_environment_unless_told_otherwise(home):
    run(versions(4), workspace=home, observers=())
    done = run(grows(4), workspace=home, observers=())
    inside, inherited, outside = done.output()
    assert inside["prefix"] == inherited
    assert outside == sys.prefix
    assert done.step("grows/versions").reused  # declared by an interpreter that lacks most of what is here
    assert run(grows(4), workspace=home, observers=()).steps[0].reused


def test_a_dask_worker_builds_the_environment_of_a_step_from_its_lock(project, tmp_path):
    pytest.importorskip("distributed")
    arguments = {"threads_per_worker": 1, "local_directory": str(tmp_path / "there")}
    cluster = TargetConfiguration("cluster", "dask", {"workers": 1, "arguments": arguments})
    configured = configuration(project)
    configured = replace(configured, targets={**configured.targets, "cluster": cluster})
    with Workspace.open(configuration=configured) as home:
        done = run(versions(6), workspace=home, target="cluster", observers=())
        assert run(versions(6), workspace=home, target="local", observers=()).steps[0].reused
    found = done.output()
    assert (found["toolz"], found["colour"]) == ("1.0.0", "red")
    assert found["prefix"].startswith(str(tmp_path / "there"))


def test_what_a_steps_code_reaches_must_be_in_its_environment(home):
    with pytest.raises(ConfigurationError, match=r"step 'reaches' runs in environment 'small', .*reaches rich"):
        run(reaches(1), workspace=home, observers=())


@step(environment="small")
def beside_imports(x: int) -> int:
    return x


def test_what_a_steps_file_imports_must_be_in_its_environment(home):
    with pytest.raises(ConfigurationError, match=r"test_environments_for_real\.py imports pytest \(line \d+\)"):
        plan(beside_imports(1), workspace=home)


def test_targets_that_have_one_interpreter_refuse_others(home):
    for ask in (run, plan):
        with pytest.raises(ConfigurationError, match=r"environment 'small', but target 'inline' runs steps with"):
            ask(versions(5), workspace=home, target="inline")


def test_an_interpreter_that_workers_cannot_run_with_is_told_before_anything_runs(project, old, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    with Workspace.open(configuration=configuration(project, bare=Environment(interpreter=str(bare)))) as home:
        with pytest.raises(
            ConfigurationError, match=r"lacks blake3 and cloudpickle, .*-m pip install blake3 cloudpickle"
        ):
            run(here.options(environment="bare")(1), workspace=home, observers=())
        assert home.environments.resolve(old).packages["toolz"] == "0.12.1"


def test_an_environment_that_was_changed_by_hand_is_not_run_in(project, home):
    changed = configuration(project)
    with Workspace.open(configuration=replace(changed, workspace=project / "other" / ".pipes")) as other:
        place = Path(home.environments.build("small")[0].command[0]).parents[1]
        copy = Path(other.environments.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        (copy / "known").mkdir(parents=True)
        for memo in (home.environments.folder / "known").iterdir():
            (copy / "known" / memo.name).write_bytes(memo.read_bytes())
        subprocess.run(["cp", "-a", place, copy / place.name], check=True)
        (site,) = copy.glob(f"{place.name}/lib/python*/site-packages")
        (site / "toolz-1.0.0.dist-info").rename(site / "toolz-1.1.0.dist-info")
        metadata = site / "toolz-1.1.0.dist-info" / "METADATA"
        metadata.write_text(metadata.read_text().replace("Version: 1.0.0", "Version: 1.1.0"))
        with pytest.raises(RunFailed, match=r"toolz is 1\.1\.0 here, not 1\.0\.0"):
            run(versions(6), workspace=other, observers=())


def test_what_cannot_be_built_fails_its_steps_and_no_others(project, home):
    resolved = home.environments.resolve("small")
    recipe = requirements.recipe(SMALL, requirements.Lock({"toolz": "99.0"}), sys.executable, "3")
    with pytest.raises(WorldError, match=r"environment 'small' cannot be built"):
        Shelf(project / "failing").build(recipe, lambda place: requirements.build(recipe, place))
    note = Shelf(project / "failing").note(recipe)
    launched = subprocess.run(
        [sys.executable, "-m", "mlflow_pipes.environments.launch", "built", note, "-c", "print(1)"],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    assert launched.returncode == 1
    assert "environment 'small' cannot be built" in launched.stderr
    assert resolved.is_ready


def test_an_environment_resolved_elsewhere_is_built_here_of_the_same_lock(home, project):
    resolved = replace(home.environments.resolve("small"), command=(), environ={})
    here_again = home.environments.from_elsewhere(resolved)
    assert here_again.digest == resolved.digest
    assert here_again.is_ready
    assert here_again.command == home.environments.resolve("small").command


def test_pipes_environments_lists_shows_and_removes(home, project, capsys, monkeypatch):
    written = '[environments.small]\nrequirements = ["toolz==1.0.0"]\n'
    (project / "pipes.toml").write_text(written)

    def pipes(*words: str) -> str:
        assert cli.run(["environments", *words]) == 0
        return capsys.readouterr().out

    monkeypatch.chdir(project)
    try:
        (listed,) = json.loads(pipes("list", "--json"))
        assert (listed["name"], listed["state"], listed["made_of"]) == ("small", "built", "toolz==1.0.0")
        shown = json.loads(pipes("show", "small", "--json"))
        assert (shown["packages"], shown["is_built"]) == ({"toolz": "1.0.0"}, True)
        assert pipes("show", "small", "--lock") == "toolz==1.0.0\n"
        assert pipes("build") == "small: is there, Python {}, 1 package\n".format(shown["python"])
        assert pipes("gc") == "nothing to remove\n"
        assert pipes("remove", "small").startswith("removed small (")
        assert home.environments.built() == []
    finally:
        (project / "pipes.toml").unlink()
