"""The publisher as a process beside runs, over a real ledger."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.run import RunEnded, RunStarted, Status, StepChanged, StepDeclared, StepTracked
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.workspace import publishing
from mlflow_pipes.workspace.ledger.ledger import SqlLedger

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("PIPES_PUBLISH", raising=False)
    yield tmp_path
    _end_publisher(tmp_path)


def _end_publisher(folder: Path) -> None:
    publishing._ask_to_end(folder)
    _wait_for(lambda: not publishing._is_publishing(folder))
    publishing._reap()


def _wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _record_run(folder: Path, number: int, *, ended: bool = True, process: str = "") -> None:
    root, step, now = f"{number:032x}", f"{number + 1000:032x}", time.time()
    started = RunStarted(root, "small", "small", now, process=process or this_process(), host=this_host())
    records: list[Any] = [
        started,
        StepDeclared(root, step, "train", "train", "step", root),
        StepTracked(root, step, Tracked((Metric("rmse", number=1.5, timestamp_ms=1),))),
        StepChanged(root, step, Status.SUCCEEDED, now, started_at=now),
    ]
    if ended:
        records.append(RunEnded(root, Status.SUCCEEDED, now + 1))
    with closing(SqlLedger.open(folder / "ledger.db")) as ledger:
        ledger.exchange(records, [], now)


def _statuses(folder: Path) -> dict[str, str]:
    database = folder / "mlflow" / "mlflow.db"
    if not database.exists():
        return {}
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT run_uuid, status FROM runs"))


def test_a_run_appears_by_itself_and_the_caller_does_not_wait(folder: Path) -> None:
    _record_run(folder, 1)
    assert publishing.start_in_background(folder)
    assert _statuses(folder) == {}  # there is not even a store yet: that takes a second
    _wait_for(lambda: len(_statuses(folder)) == 2)
    assert set(_statuses(folder).values()) == {"FINISHED"}
    assert not publishing.start_in_background(folder)  # one is at work
    _record_run(folder, 2)
    _wait_for(lambda: len(_statuses(folder)) == 4)


def test_the_embedded_publisher_does_not_import_mlflow_when_its_store_is_there(folder: Path) -> None:
    _record_run(folder, 1)
    code = f"""
import sys
from pathlib import Path
from mlflow_pipes.workspace import publishing
assert publishing.sync(Path({str(folder)!r})) == 2
assert not [name for name in sys.modules if name.partition(".")[0] == "mlflow"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(_statuses(folder)) == 2


def test_a_publisher_that_is_killed_is_followed_by_one_that_goes_on(folder: Path) -> None:
    _record_run(folder, 1)
    publishing.start_in_background(folder)
    _wait_for(lambda: publishing._is_publishing(folder))
    os.kill(publishing._started[-1], signal.SIGKILL)
    _wait_for(lambda: not publishing._is_publishing(folder))
    assert publishing.start_in_background(folder)
    _wait_for(lambda: len(_statuses(folder)) == 2)


def test_the_run_of_an_orchestrator_that_was_killed_is_shown_as_ended(folder: Path) -> None:
    _record_run(folder, 1, ended=False, process="999999:1")
    publishing.start_in_background(folder)
    _wait_for(lambda: _statuses(folder).get(f"{1:032x}") == "KILLED")


def test_sync_takes_over_from_the_background_publisher(folder: Path) -> None:
    _record_run(folder, 1, ended=False)  # a live run: the publisher stays
    publishing.start_in_background(folder)
    _wait_for(lambda: len(_statuses(folder)) == 2)
    _record_run(folder, 2)
    publishing.sync(folder)
    assert len(_statuses(folder)) == 4
    assert not publishing._is_publishing(folder)


def test_a_password_of_the_tracking_server_stands_in_no_command_line_log_or_ledger(folder: Path) -> None:
    _record_run(folder, 1)
    publishing.start_in_background(folder, "http://ann:s3cret@127.0.0.1:9")
    log = folder / "publisher.log"
    _wait_for(lambda: log.exists() and "does not take runs now" in log.read_text())
    assert "127.0.0.1:9" in log.read_text()
    assert "s3cret" not in log.read_text()
    command = Path(f"/proc/{publishing._started[-1]}/cmdline")
    assert not command.exists() or b"s3cret" not in command.read_bytes()
    assert b"s3cret" not in (folder / "ledger.db").read_bytes()


def test_no_publisher_is_started_where_the_environment_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPES_PUBLISH", "off")
    _record_run(folder, 1)
    assert not publishing.start_in_background(folder)
    assert publishing.sync(folder) == 2
