import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_pipes.errors import LedgerError
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.attempt import AttemptId, Failure, FailureKind, GpuUse, Usage, UsageSample
from mlflow_pipes.model.run import AttemptEnded, AttemptSampled, CodeSeen, LookUp, RunEnded, Status
from mlflow_pipes.model.step import CodeFingerprint, CodeLeaf
from mlflow_pipes.model.tokens import TokensGranted
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.testing.ledger_contract import LedgerContract
from mlflow_pipes.testing.ledger_records import T0, cached, changed, declared, hex_id, key_of, started, value
from mlflow_pipes.testing.outbox_contract import OutboxContract
from mlflow_pipes.testing.token_contract import TokenContract, request, returned
from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.history import History
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.place import parse_place
from mlflow_pipes.workspace.ledger.rows import attempt_from_row, change_rows
from mlflow_pipes.workspace.runs import Runs

# A process of this boot that is no more: no pid is so high.
DEAD = f"4194304:1@{this_process().partition('@')[2]}"


@pytest.fixture
def ledger(either_ledger):
    opened = SqlLedger.open(either_ledger)
    yield opened
    opened.close()


class TestSqlLedgerInMemory(LedgerContract, OutboxContract, TokenContract):
    @pytest.fixture
    def ledger(self):
        opened = SqlLedger.open(":memory:")
        yield opened
        opened.close()


@pytest.mark.integration
class TestSqlLedgerOnPostgresql(LedgerContract, OutboxContract, TokenContract):
    @pytest.fixture
    def ledger(self, postgresql):
        opened = SqlLedger.open(parse_place(postgresql.new_schema(), {}, "test"))
        yield opened
        opened.close()


class TestSqlLedgerInAFile(LedgerContract, TokenContract):
    @pytest.fixture
    def ledger(self, tmp_path):
        opened = SqlLedger.open(tmp_path / "an ödd #name? 100%.db")
        yield opened
        opened.close()


def test_what_attempts_use_is_read_back_in_order_however_often_it_was_written(ledger):
    samples = [
        UsageSample(AttemptId(hex_id("one"), "train", number), T0 + at, 1.5, 5 * 1024**3, gpus)
        for number, at, gpus in ((1, 3.0, ()), (1, 5.0, (GpuUse(80.0, 2**33),)), (2, 9.0, ()))
    ]
    records = [AttemptSampled(hex_id("one"), hex_id("one/train"), sample) for sample in samples]
    ledger.exchange([started("one"), declared("one", "train"), *reversed(records)], [], T0)
    ledger.exchange(records, [], T0)
    runs = Runs(ledger, MemoryDatastore(), Path())
    assert list(runs.get(hex_id("one")).step("train").usage) == samples


def test_hits_take_no_write_lock(either_ledger):
    one, two = SqlLedger.open(either_ledger), SqlLedger.open(either_ledger)
    one.exchange([started("one"), cached("load", "42")], [], T0)
    one.exchange([], [LookUp(key_of("train"), hex_id("one"))], T0)
    questions = [LookUp(key_of("load"), "x"), LookUp(key_of("train"), "x"), LookUp(key_of("other"), "x", claim=False)]
    hit, held, miss = two.database.write(lambda _cursor: one.exchange([], questions, T0))
    assert [type(answer).__name__ for answer in (hit, held, miss)] == ["Hit", "Held", "Miss"]
    one.close()
    two.close()


def test_an_exchange_that_fails_leaves_nothing_behind(ledger):
    with pytest.raises(LedgerError, match="cannot write"):
        ledger.exchange([started("one"), cached("load", "42"), declared("unknown run", "load")], [], T0)
    assert History(ledger.database).run(hex_id("one")) is None
    (answer,) = ledger.exchange([], [LookUp(key_of("load"), "x", claim=False)], T0)
    assert type(answer).__name__ == "Miss"
    ledger.exchange([started("one")], [], T0)


def test_a_closed_ledger_says_so(ledger):
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="was closed"):
        ledger.exchange([started("one")], [], T0)


def test_the_changes_of_one_step_in_a_batch_become_one_update():
    first = changed("one", "load", Status.RUNNING, T0, key="k", target="local")
    second = changed("one", "load", Status.SUCCEEDED, T0 + 1, output=value("1"), attempts=2)
    rows = change_rows([first, changed("one", "other", Status.QUEUED), second], 7)
    assert [row[-1] for row in rows] == [hex_id("one/load"), hex_id("one/other")]
    assert rows[0][:4] == ("succeeded", T0, T0 + 1, "k")
    assert rows[0][9:13] == ("local", None, 2, 7)
    assert rows[1][12] is None


def test_a_step_that_runs_again_has_not_ended(ledger):
    ledger.exchange([started("one"), declared("one", "load"), changed("one", "load", Status.FAILED, key="k")], [], T0)
    ledger.exchange([changed("one", "load", Status.RUNNING, T0 + 1)], [], T0)
    row = History(ledger.database).step(hex_id("one/load"))
    assert (row.status, row.started_at, row.ended_at, row.key) == ("running", T0 + 1, None, "k")


def test_attempts_are_read_back_as_they_were(ledger):
    failure = Failure(FailureKind.EXCEPTION, "ValueError: bad", ("ValueError", "Exception"), "Traceback ...", ("b",))
    attempt = AttemptEnded(
        hex_id("one"),
        hex_id("one/load"),
        1,
        T0,
        T0 + 1,
        "local",
        "w1",
        "h1",
        failure,
        Usage(1.5, 1 << 40),
        ("careful",),
    )
    ledger.exchange([started("one"), declared("one", "load"), attempt], [], T0)
    (row,) = History(ledger.database).attempts(hex_id("one/load"))
    assert attempt_from_row(hex_id("one"), row) == attempt


def test_the_runs_before_a_run_are_those_that_stand_below_it_also_when_they_started_at_once(ledger):
    ledger.exchange([started(name) for name in ("a", "b", "c")], [], T0)
    history = History(ledger.database)
    newest_first = [row.run_id for row in history.runs(None, None, None)]
    below = [history.run_before(run_id) for run_id in newest_first]
    assert [row and row.run_id for row in below] == [*newest_first[1:], None]


def test_code_leaves_are_kept_once_a_digest(ledger):
    code = CodeFingerprint("c" * 64, (CodeLeaf("function", "app.train", "d", ("app.train",)),))
    ledger.exchange([CodeSeen(code)], [], T0)
    ledger.exchange([CodeSeen(code)], [], T0)
    assert History(ledger.database).leaves("c" * 64) == code.leaves
    assert History(ledger.database).leaves("unknown") == ()


def test_a_claim_of_a_dead_process_of_this_host_is_dead_at_once(ledger):
    host = this_host()
    ledger.exchange(
        [started("dead", host=host, process=DEAD), started("live", host=host, process=this_process())], [], T0
    )
    ledger.exchange([], [LookUp(key_of("a"), hex_id("dead")), LookUp(key_of("b"), hex_id("live"))], T0)
    a, b = ledger.exchange([], [LookUp(key_of("a"), "x"), LookUp(key_of("b"), "x")], T0)
    assert [type(answer).__name__ for answer in (a, b)] == ["Claimed", "Held"]


class Watched:
    """A driver's cursor that tells of what it is asked while its database is free for other threads."""

    def __init__(self, cursor, lock):
        self.cursor, self.lock, self.asked, self.asked_unlocked = cursor, lock, [], []

    def execute(self, sql, *parameters):
        self.asked.append(sql)
        if not self.lock._is_owned():
            self.asked_unlocked.append(sql)
        return self.cursor.execute(sql, *parameters)

    def __getattr__(self, name):
        return getattr(self.cursor, name)


def test_who_waits_for_an_old_claim_asks_for_signs_of_life_while_no_other_thread_may_ask(ledger):
    ask = LookUp(key_of("k"), hex_id("b"), claim=True)
    ledger.exchange([started("a"), started("b")], [LookUp(key_of("k"), hex_id("a"), claim=True)], T0)
    ledger.heartbeat(hex_id("a"), T0 + 40)
    database = ledger.database
    watched = database._cursor = Watched(database._cursor, database._lock)
    (answer,) = ledger.exchange([], [ask], T0 + 41)
    assert answer.run_id == hex_id("a")
    assert any("heartbeat_at" in sql for sql in watched.asked)
    assert watched.asked_unlocked == []


def test_tokens_of_a_dead_process_of_this_host_are_free_at_once(ledger):
    ledger.exchange([started("one", host=this_host(), process=DEAD), started("two")], [], T0)
    ledger.exchange([], [request("one", amount=2), request("one", "waits", amount=2, priority=9)], T0)
    assert ledger.exchange([], [request("two", amount=2)], T0) == [TokensGranted("load")]


def test_tokens_of_an_interrupted_run_are_free(ledger):
    ledger.exchange([started("one", host=this_host(), process=DEAD), started("two")], [], T0)
    ledger.exchange([], [request("one", amount=2)], T0)
    ledger.interrupt_dead_runs(T0)
    assert not ledger.database.rows(tables.token_requests.select())


def test_only_who_asks_for_tokens_pays_for_them(tmp_path):
    ledger = SqlLedger.open(tmp_path / "l.db")
    ledger.exchange([started("one"), declared("one", "load")], [], T0)
    asked = []
    ledger.database.core().connection.dbapi_connection.set_trace_callback(asked.append)
    question = LookUp(key_of("load"), hex_id("one"))
    (claimed,) = ledger.exchange([changed("one", "load", Status.QUEUED)], [question], T0)
    ledger.exchange([changed("one", "load", Status.RUNNING)], [], T0)
    ledger.exchange([cached("load", "42", claimed.token), changed("one", "load", Status.SUCCEEDED)], [], T0)
    ledger.heartbeat(hex_id("one"), T0)
    assert asked
    assert not [sql for sql in asked if "token_" in sql]
    ledger.exchange([returned("one")], [request("one")], T0)
    assert [sql for sql in asked if "token_" in sql]
    ledger.close()


def test_a_run_whose_process_died_is_interrupted_with_its_unfinished_steps(ledger):
    host = this_host()
    ledger.exchange(
        [
            started("dead", host=host, process=DEAD),
            started("live", host=host, process=this_process()),
            declared("dead", "done"),
            declared("dead", "open"),
            changed("dead", "done", Status.SUCCEEDED),
            changed("dead", "open", Status.RUNNING),
        ],
        [LookUp(key_of("open"), hex_id("dead"))],
        T0,
    )
    assert ledger.interrupt_dead_runs(T0 + 5) == [hex_id("dead")]
    assert ledger.interrupt_dead_runs(T0 + 5) == []
    history = History(ledger.database)
    run = history.run(hex_id("dead"))
    assert (run.status, run.ended_at) == ("interrupted", T0)
    assert history.step(hex_id("dead/done")).status == "succeeded"
    assert history.step(hex_id("dead/open")).status == "interrupted"
    assert history.run(hex_id("live")).status == "running"
    (answer,) = ledger.exchange([], [LookUp(key_of("open"), hex_id("live"))], T0)
    assert type(answer).__name__ == "Claimed"
    assert {item.run_id for item in ledger.pending("x", 10)} >= {hex_id("dead"), hex_id("dead/open")}


def test_a_run_of_another_host_is_interrupted_after_a_minute_of_silence(ledger):
    ledger.exchange([started("far")], [], T0)
    ledger.heartbeat(hex_id("far"), T0 + 100)
    assert ledger.interrupt_dead_runs(T0 + 159) == []
    assert ledger.interrupt_dead_runs(T0 + 161) == [hex_id("far")]


def test_a_cancel_request_reaches_the_next_heartbeat(ledger):
    ledger.exchange([started("one")], [], T0)
    assert ledger.request_cancel(hex_id("one"), T0)
    assert ledger.heartbeat(hex_id("one"), T0).cancel_requested
    ledger.exchange([RunEnded(hex_id("one"), Status.CANCELLED, T0)], [], T0)
    assert not ledger.request_cancel(hex_id("one"), T0)


def test_a_sqlite_ledger_that_stays_locked_is_told_with_the_remedy(tmp_path):
    """A second process would do the same; here it is a second connection that keeps the write lock."""
    locker = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    with closing(SqlLedger.open(tmp_path / "l.db", patience_s=0.2)) as ledger, closing(locker):
        ledger.database.read(lambda cursor: cursor.execute("PRAGMA busy_timeout = 20"))
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"cannot write the ledger .*locked.*Another process holds it"):
            ledger.exchange([started("one")], [], T0)
        locker.execute("ROLLBACK")
        ledger.exchange([started("one")], [], T0)
