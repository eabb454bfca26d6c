import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_pipes.content import FileState
from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.workspace import Workspace
from mlflow_pipes.workspace.file_memo import SqliteFileMemo


@pytest.mark.usefixtures("ledger_in_workspace")
def test_a_workspace_is_made_whole_and_opens_again(tmp_path):
    folder = tmp_path / "project" / ".pipes"
    for _ in range(2):
        with Workspace.open(folder) as workspace:
            assert workspace.folder == folder
            assert workspace.runs.list() == []
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert (folder / "ledger.db").exists()


def test_a_path_may_hold_blanks_and_any_letters(tmp_path):
    with Workspace.open(tmp_path / "dätä 数据 #1?" / "w w") as workspace:
        assert workspace.runs.list() == []
        workspace.datastore.put([b"x" * 10])


def test_a_folder_that_holds_other_things_gets_no_gitignore(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with Workspace.open(tmp_path):
        assert not (tmp_path / ".gitignore").exists()


def test_the_workspace_of_a_project_is_found_from_below(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    with Workspace.open() as workspace:
        assert workspace.folder == tmp_path / ".pipes"
    with Workspace.open(tmp_path) as workspace:
        assert workspace.folder == tmp_path / ".pipes"


def test_a_place_that_is_no_folder_is_an_error_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot make the workspace .*file.*PIPES_WORKSPACE"):
        Workspace.open(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="cannot make the workspace"):
        Workspace.open(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error_with_the_remedy(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ConfigurationError, match="PIPES_WORKSPACE"):
            Workspace.open(tmp_path / "w")
    finally:
        tmp_path.chmod(0o755)


def test_a_ready_workspace_is_opened_without_alembic(tmp_path):
    code = f"import sys; from mlflow_pipes.workspace import Workspace; Workspace.open({str(tmp_path)!r}); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


STATE = FileState(1, (1 << 64) - 1, 5, 10, 11)


def test_file_digests_outlive_the_process_that_found_them(tmp_path):
    memo = SqliteFileMemo(tmp_path / "files.db")
    assert memo.get(STATE) is None
    memo.put(STATE, digest_bytes(b"hello"))
    memo.close()
    again = SqliteFileMemo(tmp_path / "files.db")
    assert again.get(STATE) == digest_bytes(b"hello")
    assert again.get(STATE._replace(mtime_ns=12)) is None
    again.close()


def test_a_damaged_memo_is_as_good_as_none(tmp_path):
    file: Path = tmp_path / "files.db"
    file.write_bytes(b"no database" * 500)
    memo = SqliteFileMemo(file)
    memo.put(STATE, digest_bytes(b"hello"))
    assert memo.get(STATE) is None
    memo.close()
