"""Run configurations: one file a situation."""

import pytest

from mlflow_pipes.errors import ConfigurationError, NotFoundError
from mlflow_pipes.scheduling.routing import Rule
from mlflow_pipes.workspace.configuration import load
from mlflow_pipes.workspace.run_configuration import RunConfiguration, names
from mlflow_pipes.workspace.situation import parameters_for, situation_of
from mlflow_pipes.workspace.user_files import import_file

NIGHTLY = """
description = "All of it, while nobody waits"
target = "big"
environment = "training"
experiment = "nightly"
priority = -1
fail_fast = false

[[rules]]
step = "train*"
tags = { size = "large" }
memory = "2 GiB"
target = "big"

[[rules]]
gpus = 1
target = "local"

[targets.big]
type = "local"
workers = 8

[environments.training]
interpreter = "python3"

[environ]
OMP_NUM_THREADS = "1"

[tags]
situation = "nightly"

[parameters.flow]
depths = [4, 8]
"""
AS_YAML = """
description: All of it, while nobody waits
target: big
environment: training
experiment: nightly
priority: -1
fail_fast: false
rules:
  - {step: train*, tags: {size: large}, memory: 2 GiB, target: big}
  - gpus: 1
    target: local
targets:
  big: {type: local, workers: 8}
environments:
  training: {interpreter: python3}
environ: {OMP_NUM_THREADS: "1"}
tags: {situation: nightly}
parameters:
  flow: {depths: [4, 8]}
"""


def write(project, text, name="nightly.toml"):
    folder = project / "configurations"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (project / "pipes.toml").touch()
    return folder / name


def test_a_file_is_found_by_its_name_and_read_whole(tmp_path):
    file = write(tmp_path, NIGHTLY)
    found = RunConfiguration.load("nightly", tmp_path)
    assert (found.name, found.source, found.target, found.experiment) == ("nightly", str(file), "big", "nightly")
    assert (found.priority, found.fail_fast) == (-1, False)
    assert found.rules == (
        Rule("big", "train*", {"size": "large"}, memory_bytes=2 << 30, source=f"{file}: rules[1]"),
        Rule("local", gpus=1, source=f"{file}: rules[2]"),
    )
    assert found.targets["big"].options == {"workers": 8}
    assert (found.environ, found.tags) == ({"OMP_NUM_THREADS": "1"}, {"situation": "nightly"})
    assert found.parameters == {"flow": {"depths": [4, 8]}}


def test_yaml_says_the_same_as_toml(tmp_path):
    write(tmp_path, NIGHTLY, "a.toml")
    write(tmp_path, AS_YAML, "b.yaml")
    first, second = (RunConfiguration.load(name, tmp_path) for name in "ab")
    for field in ("target", "experiment", "priority", "fail_fast", "environ", "tags", "parameters", "description"):
        assert getattr(first, field) == getattr(second, field)
    assert [(rule.target, rule.step, rule.gpus) for rule in second.rules] == [("big", "train*", 0), ("local", "*", 1)]
    assert names(tmp_path) == ["a", "b"]


def test_a_file_elsewhere_is_named_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("target = 'local'")
    monkeypatch.chdir(tmp_path)
    assert RunConfiguration.load("mine.toml").source == str(tmp_path / "mine.toml")


def test_the_project_of_the_working_folder_is_looked_in(tmp_path, monkeypatch):
    write(tmp_path, NIGHTLY)
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    assert RunConfiguration.load("nightly").name == "nightly"


def test_a_name_that_is_not_there_is_told_with_the_near_one(tmp_path):
    with pytest.raises(NotFoundError, match=r"'nightly'.*there are none: write .*configurations/nightly\.toml"):
        RunConfiguration.load("nightly", tmp_path)
    write(tmp_path, NIGHTLY)
    with pytest.raises(NotFoundError, match="'nigthly'; did you mean 'nightly'"):
        RunConfiguration.load("nigthly", tmp_path)
    with pytest.raises(NotFoundError, match=r"no run configuration at gone\.toml"):
        RunConfiguration.load("gone.toml", tmp_path)
    write(tmp_path, "", "nightly.yaml")
    with pytest.raises(ConfigurationError, match=r"there twice.*nightly\.toml and .*nightly\.yaml"):
        RunConfiguration.load("nightly", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("targt = 'x'", r"unknown key 'targt'; did you mean 'target'\?"),
        ("rules = 'x'", r"rules must be a list of tables: \[\[rules\]\], not 'x'"),
        ("[[rules]]\nstep = 'a'", r"rules\[1\] must say a target"),
        ("[[rules]]\ntarget = 'local'\n[[rules]]\nsteps = 'a'", r"'rules\[2\]\.steps'; did you mean 'step'\?"),
        ("[[rules]]\ntarget = 'local'\ncpus = 'many'", r"rules\[1\]\.cpus must be a number above 0, not 'many'"),
        ("[targets.local]\nworker = 2", r"'targets\.local\.worker'; did you mean 'workers'\?"),
        ("[environ]\nX = 1", r"environ\.X must be a text in quotes, not 1"),
        ("fail_fast = 1", r"fail_fast must be true or false, not 1"),
        ("priority = 'high'", r"priority must be a whole number, not 'high'"),
        ("[parameters]\nflow = 1", r"parameters\.flow must be a table, not 1"),
        ("a = = 1", r"is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        RunConfiguration.load("nightly", tmp_path)
    assert "nightly.toml" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"nightly\.yaml is not YAML"),
        ("- a", r"nightly\.yaml must be a table"),
        ("environ: {1: x}", r"nightly\.yaml: environ: 1 is no text: put the key in quotes"),
    ],
)
def test_mistakes_of_yaml_are_named_too(tmp_path, text, message):
    write(tmp_path, text, "nightly.yaml")
    with pytest.raises(ConfigurationError, match=message):
        RunConfiguration.load("nightly", tmp_path)


def test_it_stands_over_the_configuration_of_the_project_and_below_the_call(tmp_path):
    write(tmp_path, NIGHTLY)
    (tmp_path / "pipes.toml").write_text(
        "target = 'inline'\n[targets.big]\ntype = 'local'\nworkers = 2\n[environ]\nA = '1'\nOMP_NUM_THREADS = '4'\n"
    )
    project, nightly = load(tmp_path, environ={}), RunConfiguration.load("nightly", tmp_path)
    found = situation_of(project, nightly, tags={"situation": "by hand"})
    assert found.configuration.targets["big"].options == {"workers": 8}
    assert found.configuration.environ == {"A": "1", "OMP_NUM_THREADS": "1"}
    assert (found.routing.usual, found.experiment) == ("big", "nightly")
    assert found.tags == {"pipes.configuration": "nightly", "situation": "by hand"}
    assert situation_of(project, nightly, target="local", experiment="e").routing.usual == "local"
    assert situation_of(project, nightly, target="local", experiment="e").experiment == "e"
    assert situation_of(project).routing.usual == "inline"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target = 'bgi'\n[targets.big]\ntype = 'local'", r"nightly\.toml: target: .*'bgi'; did you mean 'big'\?"),
        ("[[rules]]\ntarget = 'locla'", r"nightly\.toml: rules\[1\]: .*'locla'; did you mean 'local'\?"),
    ],
)
def test_a_target_that_it_names_must_be_there(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message):
        situation_of(load(tmp_path, environ={}), RunConfiguration.load("nightly", tmp_path))
    with pytest.raises(ConfigurationError, match=r"no target 'locla'; did you mean 'local'\?"):
        situation_of(load(tmp_path, environ={}), target="locla")


def test_environments_of_a_run_configuration_come_before_those_of_the_project(tmp_path):
    (tmp_path / "pipes.toml").write_text("""
[environments.training]
interpreter = "python2"
[environments.other]
interpreter = "python4"
""")
    write(tmp_path, NIGHTLY)
    situation = situation_of(load(tmp_path), RunConfiguration.load("nightly", tmp_path))
    assert situation.environment == "training"
    named = {name: one.interpreter for name, one in situation.configuration.environments.items()}
    assert named == {"training": "python3", "other": "python4"}
    assert situation_of(load(tmp_path)).environment is None


def test_an_environment_that_is_nowhere_is_named_with_the_near_one(tmp_path):
    write(tmp_path, NIGHTLY.replace('environment = "training"', 'environment = "trainign"'))
    with pytest.raises(ConfigurationError, match=r"nightly\.toml: environment: .*'trainign'; did you mean 'training'"):
        situation_of(load(tmp_path), RunConfiguration.load("nightly", tmp_path))


def parameters_of(pipeline, project, **tables):
    """Return what a run configuration has for a pipeline of a file in the project."""
    file = project / f"flow_of_{project.name}.py"
    (project / "pipes.toml").write_text("")
    file.write_text(FLOW)
    written = "".join(f"[parameters.{name}]\nsize = {size}\n" for name, size in tables.items())
    write(project, written)
    module = import_file(file)
    return parameters_for(pipeline, getattr(module, pipeline).function, RunConfiguration.load("nightly", project))


FLOW = """
from mlflow_pipes import pipeline, step
@step
def made(size: int) -> int: return size
@pipeline
def training(size: int): return made(size)
@pipeline
def scoring(size: int): return made(size)
"""


def test_parameters_of_a_mistyped_pipeline_are_refused_with_the_near_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"parameters\.trainig: .*did you mean 'training'.*scoring, training"):
        parameters_of("scoring", tmp_path, scoring=1, trainig=2)


def test_parameters_of_pipelines_in_other_files_are_left_alone(tmp_path):
    (tmp_path / "later.py").write_text("def trainings(): ...")
    tables = {"training": 1, "scoring": 2, "trainings": 3, "quite_another": 4}
    assert parameters_of("training", tmp_path, **tables) == {"size": 1}


def test_an_installed_package_that_has_the_word_does_not_excuse_it(tmp_path):
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    (tmp_path / "venv" / "lib" / "other.py").write_text("trainig = 1")
    with pytest.raises(ConfigurationError, match="trainig"):
        parameters_of("training", tmp_path, trainig=2)
