"""What holds for every test: no workspace, display or MLflow of the person who runs them leaks in.

Tests that ask for ``either_ledger`` run twice, on SQLite and on PostgreSQL. With ``PIPES_TEST_LEDGER=postgresql`` in the
environment every other test's workspaces, too, have their ledger there: a schema for each test.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from mlflow_pipes.workspace.ledger.place import parse_place
from tests import postgresql as server_for_tests

# Few examples in each of many runs here, many examples where nobody waits.
settings.register_profile("local", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), max_examples=100, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background: children would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

FOREIGN = (
    "PIPES_WORKSPACE",
    "PIPES_TARGET",
    "PIPES_LEDGER",
    "PIPES_DEBUG",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
)


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server of this process's tests, started for the first that asks."""
    if reason := server_for_tests.missing():
        pytest.skip(reason)
    server = server_for_tests.new_server()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def either_ledger(request, monkeypatch, tmp_path, _no_foreign_settings):
    """Where a new ledger may be, once for each kind of database; workspaces that the test opens have theirs there."""
    if request.param == "sqlite":
        monkeypatch.delenv("PIPES_LEDGER", raising=False)
        return tmp_path / "l.db"
    url = request.getfixturevalue("postgresql").new_schema()
    monkeypatch.setenv("PIPES_LEDGER", url)
    return parse_place(url, {}, "test")


@pytest.fixture
def sqlite_alone(request):
    """For what has nothing to do with the kind of database."""
    if "postgresql" in request.node.callspec.id:
        pytest.skip("once is enough")


@pytest.fixture
def ledger_in_workspace(monkeypatch, _no_foreign_settings):
    """For what is of the ledger's file, or of several workspaces that know nothing of each other."""
    monkeypatch.delenv("PIPES_LEDGER", raising=False)


@pytest.fixture(autouse=True)
def _no_foreign_settings(request, monkeypatch):
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIPES_DISPLAY", "off")
    monkeypatch.setenv("PIPES_PUBLISH", "off")
    if os.environ.get("PIPES_TEST_LEDGER") == "postgresql":
        monkeypatch.setenv("PIPES_LEDGER", request.getfixturevalue("postgresql").new_schema())
