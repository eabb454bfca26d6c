from contextlib import closing

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import update

from mlflow_pipes.errors import LedgerError
from mlflow_pipes.model.artifact import to_json
from mlflow_pipes.model.run import LookUp
from mlflow_pipes.testing.ledger_records import T0, hex_id, key_of, started, value
from mlflow_pipes.workspace.ledger.backends import PostgresqlBackend, SqliteBackend
from mlflow_pipes.workspace.ledger.connection import Database
from mlflow_pipes.workspace.ledger.history import History
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.place import PostgresqlPlace
from mlflow_pipes.workspace.ledger.resumptions import resumption, stored_call
from mlflow_pipes.workspace.ledger.schema import MIGRATIONS, make_ready, stored_version
from mlflow_pipes.workspace.ledger.tables import SCHEMA_VERSION, metadata, schema_version


def config(database=None):
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    if database is not None:
        made.attributes["connection"] = database.core()
    return made


def set_version(place, version):
    ledger = SqlLedger.open(place)
    ledger.database.change(update(schema_version).values(version_num=version))
    ledger.close()


def test_the_schema_version_is_the_newest_migration():
    assert ScriptDirectory.from_config(config()).get_current_head() == SCHEMA_VERSION


def test_migrating_from_nothing_gives_the_same_tables_as_making_them(either_ledger):
    on_postgresql = isinstance(either_ledger, PostgresqlPlace)
    database = Database((PostgresqlBackend if on_postgresql else SqliteBackend)(either_ledger))

    def migrate(cursor):
        database.backend.make_room(cursor)
        command.upgrade(config(database), "head")

    database.write(migrate)
    context = MigrationContext.configure(database.core())
    differences = compare_metadata(context, metadata)
    assert [one for one in differences if "alembic_version" not in str(one)] == []
    assert stored_version(database) == SCHEMA_VERSION
    database.close()
    ledger = SqlLedger.open(either_ledger)
    ledger.exchange([started("one")], [], T0)
    ledger.close()


def test_a_ledger_of_a_newer_version_is_refused_with_the_remedy(either_ledger):
    set_version(either_ledger, "9999")
    with pytest.raises(LedgerError, match=r"newer mlflow_pipes.*9999.*upgrade"):
        SqlLedger.open(either_ledger)


def test_opening_again_finds_what_was_written(either_ledger):
    ledger = SqlLedger.open(either_ledger)
    ledger.exchange([started("one")], [], T0)
    ledger.close()
    again = SqlLedger.open(either_ledger)
    make_ready(again.database, None)
    assert again.pending("x", 10)[0].run_id == hex_id("one")
    again.close()


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path):
    (tmp_path / "l.db").write_text("not a database, but long enough to look like one " * 40)
    with pytest.raises(LedgerError, match=r"l\.db"):
        SqlLedger.open(tmp_path / "l.db")


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(LedgerError, match="nowhere"):
        SqlLedger.open(tmp_path / "nowhere" / "l.db")


def test_a_ledger_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it(either_ledger):
    on_postgresql = isinstance(either_ledger, PostgresqlPlace)
    old = Database((PostgresqlBackend if on_postgresql else SqliteBackend)(either_ledger))

    def as_it_was(cursor):
        old.backend.make_room(cursor)
        command.upgrade(config(old), "0001")
        for statement in _ROWS_OF_0001:
            cursor.execute(statement)

    old.write(as_it_was)
    assert stored_version(old) == "0001"
    old.close()
    with closing(SqlLedger.open(either_ledger)) as ledger:
        assert stored_version(ledger.database) == SCHEMA_VERSION
        differences = compare_metadata(MigrationContext.configure(ledger.database.core()), metadata)
        assert [one for one in differences if "alembic_version" not in str(one)] == []
        history = History(ledger.database)
        before = history.run(hex_id("old"))
        assert (before.pipeline, before.message, before.resumed_from) == ("flights", "as it was", None)
        (pay,) = history.steps(hex_id("old"))
        assert (pay.node, pay.status, pay.effect) == ("pay", "failed", None)
        (attempt,) = history.attempts(pay.step_run_id)
        assert (attempt.worker, attempt.output) == ("w1", None)
        assert stored_call(ledger.database, hex_id("old")) is None
        resumed = started("new", resumed_from=hex_id("old"), first_run_id=hex_id("old"))
        (hit,) = ledger.exchange([resumed], [LookUp(key_of("load"), hex_id("new"))], T0)
        assert hit.output == value("42")
        assert resumption(ledger.database, hex_id("new"), hex_id("old")).done == {}
        assert ledger.request_cancel(hex_id("new"), T0, node="pay")
        assert [request.node for request in ledger.heartbeat(hex_id("new"), T0).cancel_steps] == ["pay"]
        assert {one.run_id for one in ledger.pending("x", 10)} == {hex_id("old"), hex_id("new"), hex_id("old/pay")}


# In the words of the first version, which knew neither more columns nor fewer.
_RUN, _STEP = hex_id("old"), hex_id("old/pay")
_ROWS_OF_0001 = f"""
INSERT INTO runs (run_id, pipeline, experiment, status, started_at, ended_at, parameters, tags, host, process,
    user_name, target, git_commit, git_branch, git_remote, git_dirty, file, doc, command, output, message,
    heartbeat_at, cancel_requested, revision)
VALUES ('{_RUN}', 'flights', 'flights', 'failed', {T0}, {T0 + 9}, '{{}}', '{{}}', 'elsewhere', '1:1',
    'ann', 'local', '', '', '', FALSE, 'flow.py', '', '', NULL, 'as it was', {T0}, FALSE, 1);
INSERT INTO step_runs (step_run_id, run_id, node, name, kind, parent_id, parameters, tags, parents, position,
    status, started_at, ended_at, key, attempts, revision)
VALUES ('{_STEP}', '{_RUN}', 'pay', 'pay', 'step', '{_RUN}', '{{}}', '{{}}', '[]', 0,
    'failed', {T0}, {T0 + 1}, '{key_of("pay")}', 1, 2);
INSERT INTO attempts (step_run_id, number, started_at, ended_at, target, worker, host, failure, cpu_s,
    peak_memory_bytes, warnings)
VALUES ('{_STEP}', 1, {T0}, {T0 + 1}, 'local', 'w1', 'h', NULL, 0, 0, '[]');
INSERT INTO cache_entries (key, output, step_run_id, pipeline, node, made_at, duration_s, reuse)
VALUES ('{key_of("load")}', '{to_json(value("42"))}', '{hex_id("old/load")}', 'flights', 'load', {T0}, 1, TRUE);
UPDATE counters SET revision = 2
""".split(";\n")
