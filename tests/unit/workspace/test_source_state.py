import os
import subprocess
import time

from mlflow_pipes.model.run import SourceState
from mlflow_pipes.workspace.source_state import SourceLook, source_state


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=folder, check=True, capture_output=True
    )


def test_commit_branch_remote_and_dirty_flag_are_read(tmp_path):
    git(tmp_path, "init", "-b", "trunk")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "remote", "add", "origin", "https://me:secret@example.com/x.git")
    (tmp_path / "untracked.ipynb").write_text("")
    state = source_state(tmp_path)
    assert len(state.commit) == 40
    assert (state.branch, state.remote, state.dirty) == ("trunk", "https://example.com/x.git", False)
    (tmp_path / "a.py").write_text("2")
    assert source_state(tmp_path).dirty


def test_outside_a_repository_and_before_the_first_commit_there_is_no_commit(tmp_path):
    assert source_state(tmp_path) == SourceState()
    assert source_state(tmp_path / "nowhere") == SourceState()
    git(tmp_path, "init", "-b", "trunk")
    assert source_state(tmp_path).commit == ""


def test_without_git_the_state_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_state(tmp_path) == SourceState()


def test_a_git_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    began = time.monotonic()
    with SourceLook(tmp_path, timeout_s=0.0) as look:
        assert look.state() == SourceState()
    assert time.monotonic() - began < 30


def test_more_changed_files_than_a_pipe_holds_are_read(tmp_path):
    git(tmp_path, "init", "-b", "trunk")
    for number in range(1000):
        (tmp_path / f"{'a' * 100}{number}").touch()
    git(tmp_path, "add", ".")
    with SourceLook(tmp_path) as look:
        time.sleep(0.1)  # while something else is done
        assert look.state().branch == "trunk"
    git(tmp_path, "commit", "-m", "first")
    for number in range(1000):
        (tmp_path / f"{'a' * 100}{number}").write_text("changed")
    assert source_state(tmp_path).dirty
