import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import update

from mlflow_pipes.errors import LedgerError
from mlflow_pipes.testing.ledger_contract import T0, hex_id, started
from mlflow_pipes.workspace.ledger.backends import PostgresqlBackend, SqliteBackend
from mlflow_pipes.workspace.ledger.connection import Database
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.place import PostgresqlPlace
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
