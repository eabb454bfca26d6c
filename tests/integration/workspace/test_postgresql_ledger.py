"""What only a ledger on a server can meet: passwords, other machines' clocks, a server that goes and comes."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, run, step
from mlflow_pipes.errors import ConfigurationError, LedgerError
from mlflow_pipes.machine.processes import this_host
from mlflow_pipes.model.run import Claimed, Held, Hit, LookUp
from mlflow_pipes.testing.ledger_records import cached, declared, hex_id, key_of, started, value
from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.place import parse_place
from tests.postgresql import GUARDED, PASSWORD, free_port
from tests.unit.workspace.test_claim_laws import SingleFlight

pytestmark = pytest.mark.integration


@pytest.fixture
def place(postgresql):
    return parse_place(postgresql.new_schema(), {}, "test")


@pytest.fixture
def ledger(place):
    with closing(SqlLedger.open(place)) as opened:
        yield opened


@pytest.fixture
def restarted(postgresql):
    """The server, which is up again when the test is over."""
    yield postgresql
    postgresql.stop()
    postgresql.start()


def ask(ledger, run_name, key, now=None):
    (answer,) = ledger.exchange([], [LookUp(key_of(key), hex_id(run_name))], time.time() if now is None else now)
    return answer


# Single flight


def test_the_laws_of_single_flight_hold_on_postgresql(postgresql):
    class OnPostgresql(SingleFlight):
        def place(self):
            return parse_place(postgresql.new_schema(), {}, "test")

    OnPostgresql.TestCase.settings = SingleFlight.TestCase.settings
    OnPostgresql.TestCase("runTest").runTest()


def test_of_many_who_ask_at_once_one_gets_the_claim_and_tokens_never_come_twice(place):
    names = [f"run {number}" for number in range(8)]
    answers = {name: [] for name in names}

    def play(name):
        with closing(SqlLedger.open(place)) as ledger:
            ledger.exchange([started(name)], [], time.time())
            barrier.wait()
            for key in range(40):
                answers[name].append(ask(ledger, name, str(key)))

    barrier = threading.Barrier(len(names))
    threads = [threading.Thread(target=play, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed = [answer for given in answers.values() for answer in given if isinstance(answer, Claimed)]
    assert Counter(answer.key for answer in claimed) == {key_of(str(key)): 1 for key in range(40)}
    assert len({answer.token for answer in claimed}) == 40
    assert sum(map(len, answers.values())) == 8 * 40


def test_machines_whose_clocks_differ_agree_on_who_holds_a_claim(place):
    """One clock is two minutes ahead, one an hour late: by these times alone the others' claims would be dead."""
    ahead = {"right": 0, "fast": 120, "late": -3600}
    # Well after the server's start, since claims have a time of grace then.
    clocks = {name: lambda seconds=seconds: time.time() + 100 + seconds for name, seconds in ahead.items()}
    ledgers = {name: SqlLedger.open(place, clock=lambda s=s: time.time() + s) for name, s in ahead.items()}
    for name, clock in clocks.items():
        ledgers[name].exchange([started(name, started_at=clock())], [], clock())
        assert isinstance(ask(ledgers[name], name, f"of {name}", clock()), Claimed)
    for name, clock in clocks.items():
        for other in clocks:
            answer = ask(ledgers[name], name, f"of {other}", clock())
            assert isinstance(answer, Claimed if name == other else Held)
        assert not ledgers[name].heartbeat(hex_id(name), clock()).lost_tokens
        assert ledgers[name].interrupt_dead_runs(clock()) == []
    assert isinstance(ask(ledgers["late"], "late", "of fast", clocks["late"]() + 31), Claimed)
    for opened in ledgers.values():
        opened.close()


def test_a_process_of_another_machine_with_the_same_name_is_not_taken_for_dead(ledger):
    now = time.time()
    elsewhere = started("far", started_at=now, host=this_host(), process="4194304:1@another")
    ledger.exchange([elsewhere], [LookUp(key_of("a"), hex_id("far"))], now)
    assert isinstance(ask(ledger, "near", "a", now), Held)
    assert ledger.interrupt_dead_runs(now + 1) == []
    assert ledger.interrupt_dead_runs(now + 100) == [hex_id("far")]
    assert isinstance(ask(ledger, "near", "a", now), Claimed)


# A server that goes and comes


def test_what_is_written_while_the_server_is_away_waits_for_it(restarted, place, caplog):
    with closing(SqlLedger.open(place)) as ledger:
        ledger.exchange([started("one")], [], time.time())
        restarted.stop(signal.SIGQUIT)
        records = [declared("one", "load"), cached("load", "42")]
        writing = threading.Thread(target=ledger.exchange, args=(records, [], time.time()))
        with caplog.at_level(logging.WARNING):
            writing.start()
            time.sleep(3.0)
            restarted.start()
            writing.join()
        assert ask(ledger, "one", "load").output == value("42")
        told = [record.getMessage() for record in caplog.records]
        assert "Waiting for it" in told[0]
        assert "there again" in told[1]


def test_a_claim_outlives_the_time_in_which_nobody_could_renew_it(restarted, place):
    """The lease runs out while the server is down; its holder lives, and finds its claim when the server is back."""
    with closing(SqlLedger.open(place)) as holder, closing(SqlLedger.open(place)) as other:
        now = time.time() - 40  # when the holder gave its last sign of life
        holder.exchange([started("holder", started_at=now)], [LookUp(key_of("a"), hex_id("holder"))], now)
        restarted.stop()
        restarted.start()
        assert isinstance(ask(other, "other", "a"), Held)
        assert not holder.heartbeat(hex_id("holder"), time.time()).lost_tokens


def test_a_server_that_stays_away_is_an_error_and_then_asked_once_a_time(restarted, place):
    with closing(SqlLedger.open(place, patience_s=4.0)) as ledger:
        restarted.stop()
        for longest_s in (30.0, 3.5):
            asked = time.monotonic()
            with pytest.raises(
                LedgerError, match=r"cannot write the ledger postgresql://127.*Check that the server runs"
            ):
                ledger.exchange([started("one")], [], time.time())
            assert time.monotonic() - asked < longest_s
        restarted.start()
        ledger.exchange([started("one")], [], time.time())
        assert isinstance(ask(ledger, "one", "a"), Claimed)


def test_a_session_that_the_server_ends_is_begun_again(postgresql, ledger):
    ledger.exchange([started("one")], [], time.time())
    for _ in range(3):
        postgresql.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mlflow_pipes'"
        )
        assert isinstance(ask(ledger, "one", "a"), Claimed)


def test_a_lock_that_is_held_too_long_is_told_with_the_remedy(postgresql, place):
    with closing(SqlLedger.open(place)) as one, closing(SqlLedger.open(place, patience_s=0.5)) as two:
        two.database.rows(tables.counters.select())
        two.database._cursor.execute("SET lock_timeout = '0.2s'")

        def held(_cursor):
            with pytest.raises(LedgerError, match="Another process holds its lock"):
                two.exchange([started("one")], [], time.time())

        one.database.write(held)
        two.exchange([started("one")], [], time.time())


# Getting in


def test_a_server_that_is_not_there_is_told_at_once_with_place_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPES_LEDGER", f"postgresql://ann:{PASSWORD_IN_URL}@127.0.0.1:{free_port()}/db")
    with pytest.raises(
        LedgerError, match=r"postgresql://127\.0\.0\.1:\d+/db\?schema=pipes: .*refused.*Check that"
    ) as caught:
        Workspace.open(tmp_path / "w")
    assert PASSWORD not in str(caught.value)
    assert not (tmp_path / "w" / "ledger.url").exists()


PASSWORD_IN_URL = "p%40ss%3Aw%2Frd%3F%231"


def doctor(folder, **environ):
    done = subprocess.run(
        [Path(sys.executable).with_name("pipes"), "doctor", "--json"],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done, {check["name"]: check for check in json.loads(done.stdout)}


@pytest.mark.usefixtures("ledger_in_workspace")
def test_a_password_opens_the_ledger_and_is_told_nowhere(postgresql, tmp_path):
    postgresql.query(f"CREATE SCHEMA IF NOT EXISTS guarded AUTHORIZATION {GUARDED}")
    url = f"postgresql://{GUARDED}:${{DB_PASSWORD}}@127.0.0.1:{postgresql.port}/postgres?schema=guarded"
    (tmp_path / "pipes.toml").write_text(f'ledger = "{url}"\n')
    done, checks = doctor(tmp_path, DB_PASSWORD=PASSWORD)
    assert checks["ledger"]["verdict"] == "ok"
    assert "PostgreSQL" in checks["ledger"]["text"]
    assert "schema=guarded" in checks["ledger"]["text"]
    assert PASSWORD not in done.stdout + done.stderr
    wrong, checks = doctor(tmp_path, DB_PASSWORD="Wr0ng-one")
    assert checks["ledger"]["verdict"] == "fail"
    assert "password authentication failed" in checks["ledger"]["text"]
    assert "Check user and password" in checks["ledger"]["text"]
    assert "Wr0ng-one" not in wrong.stdout + wrong.stderr
    missing, checks = doctor(tmp_path)
    assert "DB_PASSWORD" in checks["workspace"]["text"]
    assert wrong.returncode == missing.returncode == 75
    for file in (tmp_path / ".pipes").rglob("*"):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes()


def test_who_may_not_make_a_schema_is_told_who_can(postgresql, monkeypatch, tmp_path):
    url = f"postgresql://{GUARDED}:{PASSWORD_IN_URL}@127.0.0.1:{postgresql.port}/postgres?schema=not_mine"
    monkeypatch.setenv("PIPES_LEDGER", url)
    with pytest.raises(LedgerError, match=r"permission denied.*CREATE SCHEMA not_mine AUTHORIZATION"):
        Workspace.open(tmp_path)


def test_a_workspace_remembers_where_its_ledger_is(tmp_path, monkeypatch, place):
    monkeypatch.setenv("PIPES_LEDGER", place.written)
    with Workspace.open(tmp_path / "w") as opened:
        opened.ledger.exchange([started("one")], [], time.time())
    monkeypatch.delenv("PIPES_LEDGER")
    with pytest.raises(ConfigurationError, match=r"is at postgresql://127.*set ledger = "):
        Workspace.open(tmp_path / "w")
    (tmp_path / "pipes.toml").write_text(f'ledger = "{place.written}"\n')
    monkeypatch.chdir(tmp_path)
    with Workspace.open("w") as opened:
        assert opened.runs.get(hex_id("one")).pipeline == "flights"
    with Workspace.open("another") as opened:  # the file's ledger is not everybody's
        assert opened.configuration.ledger is None
        assert opened.runs.list() == []


def test_two_schemas_of_one_database_are_two_workspaces(postgresql, tmp_path, monkeypatch):
    places = [parse_place(postgresql.new_schema(), {}, "test") for _ in range(2)]
    ledgers = [SqlLedger.open(place) for place in places]
    ledgers[0].exchange([started("one"), cached("load", "42")], [], time.time())
    assert isinstance(ask(ledgers[0], "x", "load"), Hit)
    assert isinstance(ask(ledgers[1], "x", "load"), Claimed)
    assert ledgers[1].pending("here", 10) == []
    for opened in ledgers:
        opened.close()


@step
def fail(x: int) -> int:
    raise ValueError("a\0b \udcff")


def test_texts_that_no_database_can_hold_are_stored_as_near_as_can_be(tmp_path, either_ledger):
    with Workspace.open(tmp_path / "w") as opened:
        done = run(fail(1), workspace=opened, observers=(), raise_on_failure=False, tags={"a\0": "\udcff\0"})
        assert done.status == "failed"
        assert done.message == "step 'fail' failed: ValueError: a\ufffdb ?"
        assert "a\0b \udcff" in done.failure_text()  # as it was: what can be escaped is


# Whole runs

MANY = """
import sys
from mlflow_pipes import pipeline, run, step

@step
def work(number: int) -> int:
    return number + 1

@pipeline
def many(own: int):
    shared = [work(number) for number in range(500)]
    return shared + [work(1_000_000 * own + number) for number in range(500)]

if __name__ == "__main__":
    run(many(int(sys.argv[1])), workspace="w", target="inline", observers=())
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_processes_of_a_thousand_steps_lose_nothing_and_compute_nothing_twice(place, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPES_LEDGER", place.written)
    (tmp_path / "many.py").write_text(MANY)
    players = [
        subprocess.Popen([sys.executable, "many.py", str(number)], cwd=tmp_path, stderr=subprocess.PIPE)
        for number in range(1, 11)
    ]
    try:
        told = [player.communicate(timeout=250)[1].decode() for player in players]
    finally:
        for player in players:
            player.kill()
            player.communicate()
    assert told == [""] * 10
    assert [player.returncode for player in players] == [0] * 10
    with closing(SqlLedger.open(place)) as ledger:
        runs = ledger.database.rows(tables.runs.select())
        steps = ledger.database.rows(tables.step_runs.select())
        assert [one.status for one in runs] == ["succeeded"] * 10
        assert Counter(one.status for one in steps) == {"succeeded": 5500, "reused": 4500}
        assert set(Counter(one.key for one in steps if one.status == "succeeded").values()) == {1}
        assert len(ledger.database.rows(tables.cache_entries.select())) == 5500
        assert ledger.database.rows(tables.claims.select()) == []
        entries = {one.key: one.step_run_id for one in ledger.database.rows(tables.cache_entries.select())}
        assert all(entries[one.key] == (one.reused_from or one.step_run_id) for one in steps)


SLOWLY = """
import sys, time
from mlflow_pipes import pipeline, run, step

@step
def work(number: int, effects: str) -> int:
    time.sleep(0.03)
    with open(effects, "ab", buffering=0) as log:
        log.write(f"{number}\\n".encode())
    return number

@pipeline
def slowly(effects: str):
    return [work(number, effects) for number in range(100)]

if __name__ == "__main__":
    run(slowly(sys.argv[1]), workspace="w", observers=())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_run_survives_a_restart_of_the_server(restarted, place, tmp_path, monkeypatch, how):
    monkeypatch.setenv("PIPES_LEDGER", place.written)
    (tmp_path / "slowly.py").write_text(SLOWLY)
    effects = tmp_path / "effects"
    with subprocess.Popen([sys.executable, "slowly.py", str(effects)], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (effects.exists() and len(effects.read_text().split()) > 20):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        restarted.stop(how)
        time.sleep(0.5)
        restarted.start()
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told.decode()
    assert Counter(effects.read_text().split()) == {str(number): 1 for number in range(100)}
    with Workspace.open(tmp_path / "w") as workspace:
        (done,) = workspace.runs.list()
        assert done.status == "succeeded"
        assert {step.status.value for step in done.steps} == {"succeeded"}
        assert workspace.ledger.database.rows(tables.claims.select()) == []
