"""Fixtures for tests that talk to a real MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.tracking.quiet import settle
from tests.mlflow_server import MlflowServer


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    settle()
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def datastore(tmp_path: Path) -> LocalDatastore:
    return LocalDatastore(tmp_path / "datastore")


class MemoryOutbox:
    """An outbox that forgets nothing but what a test makes it forget."""

    def __init__(self, *publications: Publication) -> None:
        self.publications = {item.run_id: item for item in publications}
        self.receipts: dict[str, Receipt] = {}
        self.lose_receipts = 0

    def put(self, *publications: Publication) -> None:
        self.publications.update((item.run_id, item) for item in publications)

    def pending(self, destination: str, limit: int) -> list[Publication]:
        from dataclasses import replace

        found = []
        for item in self.publications.values():
            receipt = self.receipts.get(item.run_id)
            if receipt is None or receipt.revision < item.revision:
                found.append(replace(item, mlflow_run_id=receipt.mlflow_run_id if receipt else None))
        return found[:limit]

    def delivered(self, destination: str, receipts: Sequence[Receipt]) -> None:
        if self.lose_receipts:
            self.lose_receipts -= 1
            raise KeyboardInterrupt("killed between delivery and receipt")
        self.receipts.update((receipt.run_id, receipt) for receipt in receipts)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for a module, because it takes seconds to start: each test has an experiment of its own."""
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()
