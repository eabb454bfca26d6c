"""Fixtures for tests that talk to a real MLflow."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.tracking.quiet import settle


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


class MlflowServer:
    """A real ``mlflow server`` on loopback; killed and started again at will, its data stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        database = f"sqlite:///{self.folder / 'server.db'}"
        with (self.folder / "server.log").open("ab") as log:
            self._launch(database, log)
        self._wait()

    def _launch(self, database: str, log: BinaryIO) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", database, "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 110
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "server.log").read_text()) from None
                time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: the server and its workers alone
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)


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
