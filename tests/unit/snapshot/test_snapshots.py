"""What a snapshot holds, and how it is laid out elsewhere."""

import threading
from pathlib import Path

import pytest

from mlflow_pipes.content.memo import FileState, MemoryFileMemo
from mlflow_pipes.content.tree import walk
from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.step import PickledFunction
from mlflow_pipes.snapshot import taking
from mlflow_pipes.snapshot.ignoring import project_files
from mlflow_pipes.snapshot.taking import Snapshots
from mlflow_pipes.snapshot.unpacking import unpack
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.testing.target_driver import imported
from mlflow_pipes.worker.functions import Functions
from mlflow_pipes.worker.sources import SourceChangedError


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_py", ".py").replace("dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    write(folder, flow_py="def step(x):\n    return x\n", lib__inner_py="A = 1\n")
    (folder / "pipes.toml").write_text("")
    return folder


def held(snapshot, datastore):
    return {f"/{path}" for path, entry in walk(datastore.read(snapshot.root), datastore) if entry.kind == "file"}


def names(project, **options):
    return sorted(str(Path(path).relative_to(project)) for path, _ in project_files(project, **options))


def test_a_snapshot_holds_the_project_at_its_own_paths(project):
    datastore = MemoryDatastore()
    snapshot, function = Snapshots(datastore).shipped(imported(project / "flow.py", "step"))
    assert held(snapshot, datastore) == {str(project / name) for name in ("flow.py", "lib/inner.py", "pipes.toml")}
    assert snapshot.files == 3
    assert function.sources == ()


def test_of_a_folder_that_is_no_project_only_what_the_step_reaches_is_sent(tmp_path):
    write(tmp_path, flow_py="def step(x):\n    return x\n", private_py="", notes="secret")
    datastore = MemoryDatastore()
    snapshot, _ = Snapshots(datastore).shipped(imported(tmp_path / "flow.py", "step"))
    assert held(snapshot, datastore) == {str(tmp_path / "flow.py")}


def test_git_ignored_files_stay_behind_and_nearer_rules_win(project):
    write(project, data__big="x", lib__keep__log="x", lib__other__log="x", out__a_py="")
    (project / ".gitignore").write_text("data/\nlog\n/out\n")
    (project / "lib" / ".gitignore").write_text("!keep/log\n")
    assert names(project) == [".gitignore", "flow.py", "lib/.gitignore", "lib/inner.py", "lib/keep/log", "pipes.toml"]


def test_pipesignore_takes_the_place_of_gitignore(project):
    write(project, data__table="x", secret="x")
    (project / ".gitignore").write_text("data/\n")
    (project / ".pipesignore").write_text("secret\n.gitignore\n")
    assert names(project) == [".pipesignore", "data/table", "flow.py", "lib/inner.py", "pipes.toml"]


def test_a_repository_says_what_its_projects_ignore(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.csv\n")
    write(tmp_path / "project", flow_py="", table="")
    (tmp_path / "project" / "t.csv").write_text("")
    assert names(tmp_path / "project") == ["flow.py", "table"]


def test_what_tools_leave_and_what_is_excluded_is_no_code(project):
    write(project, dot_git__config="", __pycache____x="", env__pyvenv="", store__blob="")
    (project / "env" / "pyvenv.cfg").write_text("")
    (project / "__pycache__").mkdir(exist_ok=True)
    (project / "__pycache__" / "flow.cpython-311.pyc").write_text("")
    (project / "circle").symlink_to(project)
    (project / "dangling").symlink_to(project / "nothing")
    found = names(project, excluded=frozenset({str(project / "store")}))
    assert [name for name in found if "x" not in name] == ["flow.py", "lib/inner.py", "pipes.toml"]


def test_an_ignored_file_that_a_step_reaches_is_sent_all_the_same(project):
    (project / ".gitignore").write_text("flow.py\n")
    datastore = MemoryDatastore()
    snapshot, _ = Snapshots(datastore).shipped(imported(project / "flow.py", "step"))
    assert str(project / "flow.py") in held(snapshot, datastore)


def test_one_snapshot_serves_all_functions_of_a_project_and_grows_for_others(project, tmp_path):
    write(tmp_path / "second", other_py="def step(x):\n    return x\n")
    snapshots = Snapshots(MemoryDatastore())
    first, _ = snapshots.shipped(imported(project / "flow.py", "step"))
    again, _ = snapshots.shipped(imported(project / "lib" / "inner.py", "A"))
    both, _ = snapshots.shipped(imported(tmp_path / "second" / "other.py", "step"))
    assert first == again
    assert both.files == first.files + 1


def test_equal_code_gives_equal_snapshots_and_an_edit_another(project):
    datastore = MemoryDatastore()
    function = imported(project / "flow.py", "step")
    first, _ = Snapshots(datastore).shipped(function)
    assert Snapshots(datastore).shipped(function)[0] == first
    (project / "lib" / "inner.py").write_text("A = 2\n")
    assert Snapshots(datastore).shipped(function)[0].root != first.root


def test_a_file_edited_since_the_run_was_planned_is_refused(project):
    function = imported(project / "flow.py", "step")
    (project / "flow.py").write_text("def step(x):\n    return 2 * x\n")
    with pytest.raises(SourceChangedError, match=r"flow\.py was edited"):
        Snapshots(MemoryDatastore()).shipped(function)


class CountingMemo(MemoryFileMemo):
    hits = 0

    def get(self, state):
        found = super().get(state)
        self.hits += found is not None
        return found


def test_unchanged_files_are_not_read_again(project):
    memo, datastore = CountingMemo(), MemoryDatastore()
    for path, status in project_files(project):
        memo.put(FileState.of(status), datastore.put((Path(path).read_bytes(),)))
    Snapshots(datastore, memo).shipped(imported(project / "flow.py", "step"))
    assert memo.hits == 3


def test_a_project_too_large_names_what_is_large(project):
    (project / "data").mkdir()
    with (project / "data" / "big.bin").open("wb") as file:
        file.truncate(taking.MOST_BYTES + 1)
    with pytest.raises(ConfigurationError, match=r"data \(500 MiB\).*\.pipesignore"):
        Snapshots(MemoryDatastore()).shipped(imported(project / "flow.py", "step"))


def test_a_notebooks_function_travels_with_the_project_it_is_worked_in(project, monkeypatch):
    monkeypatch.chdir(project / "lib")
    datastore = MemoryDatastore()
    snapshot, function = Snapshots(datastore).shipped(PickledFunction("f", b""))
    assert function.payload == b""
    assert str(project / "flow.py") in held(snapshot, datastore)
    assert snapshot.cwd == str(project / "lib")


def test_functions_are_found_where_a_snapshot_is_unpacked(project, tmp_path):
    datastore = LocalDatastore(tmp_path / "datastore")
    (project / "flow_of_snapshot_test.py").write_text("import os.path\ndef step(x):\n    return __file__\n")
    snapshot, function = Snapshots(datastore).shipped(imported(project / "flow_of_snapshot_test.py", "step"))
    unpacked = unpack(snapshot, datastore, tmp_path / "code")
    found = Functions().find(unpacked.moved(function))
    where = found.function(1)
    assert where.startswith(str(tmp_path / "code"))
    assert unpacked.told(f"File {where}, line 1") == f"File {project}/flow_of_snapshot_test.py, line 1"


def test_many_who_unpack_at_once_agree_and_leave_nothing_else(project, tmp_path):
    datastore = LocalDatastore(tmp_path / "datastore")
    for number in range(50):
        (project / f"module_{number}.py").write_text(f"N = {number}\n")
    snapshot, _ = Snapshots(datastore).shipped(imported(project / "flow.py", "step"))
    prefixes = []
    threads = [
        threading.Thread(target=lambda: prefixes.append(unpack(snapshot, datastore, tmp_path / "code").prefix))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(prefixes) == 8
    assert len(set(prefixes)) == 1
    assert [entry.name for entry in (tmp_path / "code").iterdir()] == [Path(prefixes[0]).name]
    assert (Path(prefixes[0] + str(project)) / "module_49.py").read_text() == "N = 49\n"


def test_the_working_folder_is_found_where_the_snapshot_has_it(project, tmp_path, monkeypatch):
    datastore = LocalDatastore(tmp_path / "datastore")
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project / "lib"))
    snapshot, _ = Snapshots(datastore).shipped(imported(project / "flow.py", "step"))
    unpacked = unpack(snapshot, datastore, tmp_path / "code")
    assert unpacked.cwd == unpacked.prefix + str(project)
    assert unpacked.path[0] == unpacked.prefix + str(project / "lib")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    snapshot, _ = Snapshots(datastore).shipped(imported(project / "flow.py", "step"))
    assert unpack(snapshot, datastore, tmp_path / "code").cwd is None
