"""What docs/when-machines-fail.md says of troubles that no other test shows: clocks, databases, servers, datastores."""

import os
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, current_run, pipeline, resume, run, step
from mlflow_pipes.errors import DatastoreError, LedgerError, RunFailed
from mlflow_pipes.model.run import Claimed, Held, LookUp, StepChanged
from mlflow_pipes.testing.ledger_records import T0, hex_id, key_of, started
from mlflow_pipes.workspace import publishing
from mlflow_pipes.workspace.configuration import load
from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.flights import LEASE_S
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.place import parse_place
from mlflow_pipes.workspace.workspace import SystemClock
from tests.postgresql import free_port

pytestmark = pytest.mark.integration

HOURS_S = 3 * 3600.0


def note(text):
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"{text} {current_run().idempotency_key}\n")


@step
def first(number: int) -> bytes:
    note("first")
    return bytes([number]) * 10_000


@step(reuse="never")
def pay(paid: bytes) -> int:
    note("pay")
    time.sleep(0.2)
    return len(paid)


@step
def last(paid: int, number: int) -> bytes:
    note("last")
    return bytes([number]) * paid


@pipeline
def flow(number: int = 1):
    return last(pay(first(number)), number)


@pytest.fixture(autouse=True)
def notes(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))

    def told():
        file = tmp_path / "notes"
        return Counter(line.split()[0] for line in file.read_text().splitlines()) if file.exists() else Counter()

    return told


class When:
    """An observer that does something, once, when the step of that place in the pipeline has a status."""

    def __init__(self, position, status, do):
        self._position, self._status, self._do = position, status, do
        self._ids = []

    def recorded(self, records):
        for record in records:
            if hasattr(record, "position"):
                self._ids.append(record.step_run_id)
            if (
                isinstance(record, StepChanged)
                and record.status == self._status
                and self._do is not None
                and record.step_run_id == self._ids[self._position]
            ):
                do, self._do = self._do, None
                do()

    def seen(self, event):
        pass


class SetClock(SystemClock):
    """The machine's clock, which somebody may set."""

    ahead_s = 0.0

    def now(self):
        return super().now() + self.ahead_s


# Clocks


@pytest.mark.parametrize("jump_s", [HOURS_S, -HOURS_S])
@pytest.mark.parametrize("target", ["inline", "local"])
def test_a_clock_that_is_set_in_the_middle_of_a_run_does_no_harm(either_ledger, tmp_path, notes, target, jump_s):
    clock = SetClock()

    def jump():
        clock.ahead_s = jump_s

    with closing(Workspace(load(workspace=tmp_path / "w"), clock=clock)) as workspace:
        Workspace.open(tmp_path / "w").close()  # makes the folder
        observer = When(1, "running", jump)
        done = run(flow(), workspace=workspace, target=target, observers=[observer])
        assert clock.ahead_s == jump_s
        assert done.status == "succeeded"
        assert {one.status.value for one in done.steps} == {"succeeded"}
        assert {one.attempts for one in done.steps} == {1}
        again = run(flow(), workspace=workspace, target=target, observers=())
        assert Counter(one.status.value for one in again.steps) == {"reused": 2, "succeeded": 1}
        assert workspace.ledger.database.rows(tables.claims.select()) == []
    assert notes() == {"first": 1, "pay": 2, "last": 1}


@pytest.mark.parametrize("jump_s", [HOURS_S, -HOURS_S])
def test_a_run_whose_process_is_seen_to_live_is_not_given_up_whatever_the_clock_says(either_ledger, tmp_path, jump_s):
    clock = SetClock()
    with (
        closing(Workspace(load(workspace=tmp_path / "w"), clock=clock)) as observer,
        Workspace.open(tmp_path / "w") as own,
    ):
        looked = []

        def look():
            clock.ahead_s = jump_s
            looked.append(observer.runs.get("latest").status)

        done = run(flow(), workspace=own, target="local", observers=[When(1, "running", look)])
        assert looked == ["running"]
        assert done.status == "succeeded"


def test_the_claims_of_an_owner_of_whom_nothing_is_heard_are_free_after_the_lease(either_ledger):
    """Stated: 30 seconds; on one machine at once when its process is gone (test_surviving)."""
    assert LEASE_S == 30.0
    with closing(SqlLedger.open(either_ledger)) as ledger:
        ledger.exchange([started("owner"), started("other")], [LookUp(key_of("a"), hex_id("owner"))], T0)
        question = [LookUp(key_of("a"), hex_id("other"))]
        assert isinstance(ledger.exchange([], question, T0 + LEASE_S - 1)[0], Held)
        assert isinstance(ledger.exchange([], question, T0 + LEASE_S)[0], Claimed)


# Databases


@contextmanager
def away(server):
    server.stop()
    try:
        yield
    finally:
        server.start()


def test_a_database_that_stays_away_ends_the_run_and_what_happened_is_not_done_again(
    tmp_path, monkeypatch, postgresql, notes
):
    """The patience of a minute is two seconds here."""
    place = parse_place(postgresql.new_schema(), {}, "test")
    monkeypatch.setenv("PIPES_LEDGER", place.written)
    stopping = []

    def stop():
        stopping.append(away(postgresql))
        stopping[0].__enter__()

    with Workspace.open(tmp_path / "w") as workspace:
        workspace.ledger.close()
        workspace.ledger = SqlLedger.open(place, patience_s=2.0)
        del workspace.runs
        try:
            with pytest.raises(LedgerError, match=r"cannot write the ledger postgresql://.*Check that the server runs"):
                run(flow(), workspace=workspace, target="inline", observers=[When(1, "running", stop)])
        finally:
            stopping[0].__exit__(None, None, None)
        assert notes() == {"first": 1, "pay": 1}
        (failed,) = workspace.runs.list()
        assert failed.status == "interrupted"
        assert failed.message.startswith("the orchestrator failed: cannot write the ledger")
        (effect,) = [one for one in failed.steps if one.effect]
        assert effect.reason.startswith("unknown: it may have happened")
        done = resume(failed.id, workspace=workspace, target="inline", observers=())
        assert done.status == "succeeded"
    assert notes() == {"first": 1, "pay": 2, "last": 1}
    keys = [line.split()[1] for line in Path(os.environ["NOTES"]).read_text().splitlines() if line.startswith("pay")]
    assert keys[0] == keys[1]


# Tracking servers


def test_a_tracking_server_that_is_away_does_not_hinder_a_run(tmp_path, monkeypatch, notes):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("PIPES_PUBLISH")
    with Workspace.open(tmp_path / "w") as workspace:
        try:
            began = time.monotonic()
            done = run(flow(), workspace=workspace, target="inline", observers=())
            assert time.monotonic() - began < 40.0
            assert done.status == "succeeded"
            waiting = {one.run_id for one in workspace.ledger.pending("any server", 100)}
            assert waiting == {done.id, *(one.id for one in done.steps)}
        finally:
            _end_publisher(workspace.folder)


def _end_publisher(folder):
    deadline = time.monotonic() + 60
    while not publishing._is_publishing(folder):  # it may only be starting
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while publishing._is_publishing(folder):
        assert time.monotonic() < deadline
        publishing._ask_to_end(folder)
        time.sleep(0.1)
    publishing._reap()


# Datastores


@pytest.mark.parametrize("target", ["inline", "local"])
def test_a_datastore_that_cannot_be_reached_fails_the_run_which_is_resumed_when_it_can(
    either_ledger, tmp_path, notes, target
):
    folder, gone = tmp_path / "w" / "datastore", tmp_path / "elsewhere"

    def unplug():
        folder.rename(gone)
        folder.write_text("a network share that is not mounted")

    with Workspace.open(tmp_path / "w") as workspace:
        with pytest.raises((RunFailed, DatastoreError)) as caught:
            run(flow(), workspace=workspace, target=target, observers=[When(1, "running", unplug)])
        assert str(folder) in str(caught.value)
        folder.unlink()
        gone.rename(folder)
        failed = workspace.runs.get("latest")
        assert failed.status in {"failed", "interrupted"}
        done = resume(failed.id, workspace=workspace, target=target, observers=())
        assert done.status == "succeeded"
        assert done.step("first").reused
    assert notes()["first"] == 1
