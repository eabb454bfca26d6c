import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.machine.processes import this_host
from mlflow_pipes.workspace.configuration import find_project, load, workspace_folder
from mlflow_pipes.workspace.supply import supply_of

FULL = """
workspace = "state"
target = "big"
tracking_uri = "http://file"
experiment = "flights"

[targets.big]
type = "local"
workers = 3
cpus = 6
memory = "8 GiB"

[environ]
OMP_NUM_THREADS = "1"
"""


def write(folder, text, name="pipes.toml"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_without_any_configuration_the_workspace_lies_beside_the_project(tmp_path):
    (tmp_path / ".git").mkdir()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    found = load(inner, environ={})
    assert (found.folder, found.workspace, found.file) == (tmp_path, tmp_path / ".pipes", None)
    assert (found.target, found.tracking_uri, found.experiment) == ("local", None, None)
    assert set(found.targets) == {"local", "inline"}


def test_pipes_toml_is_found_upwards_and_read_whole(tmp_path):
    write(tmp_path, FULL)
    inner = tmp_path / "a"
    inner.mkdir()
    found = load(inner, environ={})
    assert found.workspace == tmp_path / "state"
    assert (found.target, found.tracking_uri, found.experiment) == ("big", "http://file", "flights")
    big = found.targets["big"]
    assert (big.type, big.options) == ("local", {"workers": 3, "cpus": 6.0, "memory_bytes": 8 << 30})
    assert big.source == str(tmp_path / "pipes.toml")
    assert found.environ == {"OMP_NUM_THREADS": "1"}


def test_tokens_and_what_runs_share_are_read(tmp_path):
    write(tmp_path, "[tokens]\ndatabase = 4\nlicence = 0.5\n[targets.local]\ngpus = 2\nshared = true\n")
    found = load(tmp_path, environ={})
    assert found.tokens == {"database": 4.0, "licence": 0.5}
    local = found.targets["local"]
    assert (local.type, local.options, local.shared) == ("local", {"gpus": 2}, True)
    supply = supply_of(found)
    assert supply.tokens == found.tokens
    assert supply.shared == {"local": f"target:local@{this_host()}"}, "each machine has its own"
    assert not load(tmp_path / "..", environ={}).targets["local"].shared


def test_a_table_in_pyproject_counts_and_a_pyproject_without_it_does_not(tmp_path):
    write(tmp_path, '[tool.pipes]\nexperiment = "outer"\n', "pyproject.toml")
    write(tmp_path / "inner", "[project]\nname = 'x'\n", "pyproject.toml")
    found = load(tmp_path / "inner", environ={})
    assert (found.experiment, found.file) == ("outer", tmp_path / "pyproject.toml")


def test_arguments_come_before_environment_before_file(tmp_path):
    write(tmp_path, FULL)
    environ = {
        "PIPES_WORKSPACE": "from-environ",
        "PIPES_TARGET": "inline",
        "MLFLOW_TRACKING_URI": "http://environ",
        "MLFLOW_EXPERIMENT_NAME": "environ",
    }
    found = load(tmp_path, environ=environ)
    assert found.workspace == tmp_path / "from-environ"
    assert (found.target, found.tracking_uri, found.experiment) == ("inline", "http://environ", "environ")
    found = load(tmp_path, workspace=tmp_path / "w", target="big", tracking_uri="u", experiment="e", environ=environ)
    assert (found.workspace, found.target, found.tracking_uri, found.experiment) == (tmp_path / "w", "big", "u", "e")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worksapce = 'x'", r"unknown key 'worksapce'; did you mean 'workspace'\?"),
        ("[targets.big]\ntype = 'locl'", r"targets\.big\.type.*'locl'; did you mean 'local'\?"),
        ("[targets.local]\nworker = 2", r"'targets\.local\.worker'; did you mean 'workers'\?"),
        ("[targets.local]\nworkers = 0", r"targets\.local\.workers must be a whole number of at least 1, not 0"),
        ("[targets.local]\nworkers = true", r"targets\.local\.workers must be"),
        ("[targets.local]\ngpus = -1", r"targets\.local\.gpus must be a whole number of at least 0, not -1"),
        ("[targets.local]\nshared = 1", r"targets\.local\.shared must be true or false, not 1"),
        ("[targets.inline]\nshared = true", r"unknown key 'targets\.inline\.shared'"),
        ("[tokens]\ndatabase = 0", r"tokens\.database must be a number above 0, not 0"),
        ("[tokens]\ndatabase = inf", r"tokens\.database must be a number above 0, not inf"),
        ("[tokens]\ndatabase = 'four'", r"tokens\.database must be a number above 0, not 'four'"),
        ("[tokens]\n'target:local' = 1", r"tokens\.target:local: the name of a token begins with a letter"),
        ("tokens = 4", r"tokens must be a table, not 4"),
        ("[targets.local]\nmemory = 'much'", r"targets\.local\.memory must be a size such as '8 GiB', not 'much'"),
        ("[targets.local]\ncpus = -1", r"targets\.local\.cpus must be a number above 0"),
        ("targets = 3", r"targets must be a table"),
        ("target = 'locla'", r"no target 'locla'; did you mean 'local'\?"),
        ("target = 3", r"target must be a text"),
        ("workspace = ''", r"workspace must be a text that is not empty"),
        ("[environ]\nX = 1", r"environ\.X must be a text in quotes, not 1"),
        ("a = = 1", r"is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        load(tmp_path, environ={})
    assert "pipes.toml" in str(raised.value) or "no target" in str(raised.value)


def test_a_workspace_may_be_given_as_a_file_url(tmp_path):
    assert workspace_folder(f"file://{tmp_path}/a%20b", tmp_path) == tmp_path / "a b"
    with pytest.raises(ConfigurationError, match="s3://"):
        workspace_folder("s3://bucket/x", tmp_path)


def test_the_folder_of_a_project_stands_for_the_workspace_in_it(tmp_path):
    write(tmp_path, "")
    assert workspace_folder(tmp_path, tmp_path) == tmp_path / ".pipes"
    assert workspace_folder("elsewhere", tmp_path) == tmp_path / "elsewhere"


def test_a_workspace_given_by_path_reads_the_configuration_of_its_project(tmp_path):
    write(tmp_path, "experiment = 'mine'")
    assert load(tmp_path / "..", workspace=tmp_path / ".pipes", environ={}).experiment == "mine"


def test_workers_are_told_where_mlflow_is(tmp_path):
    write(tmp_path, FULL)
    environ = load(tmp_path, environ={}).step_environ(tmp_path / "w")
    assert environ == {"OMP_NUM_THREADS": "1", "PIPES_MLFLOW_URI": "http://file"}
    (tmp_path / "pipes.toml").write_text("")
    assert load(tmp_path, environ={}).step_environ(tmp_path / "w") == {
        "PIPES_MLFLOW_URI": f"sqlite:///{tmp_path}/w/mlflow/mlflow.db"
    }


def test_the_project_of_a_folder_without_one_is_the_folder(tmp_path):
    assert find_project(tmp_path) == tmp_path
