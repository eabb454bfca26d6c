"""The MLflow UI as a process of ours: started on a store, watched until it answers, stopped with all its workers."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Self

from mlflow_pipes.errors import ConfigurationError, TrackingError

START_TIMEOUT_S = 90.0  # MLflow's server takes 3 to 10 s here, longer on a cold disk
STOP_TIMEOUT_S = 5.0
USUAL_PORT = 5000


def check_installed() -> None:
    """Check that the UI is installed.

    Raises:
        ConfigurationError: only mlflow-skinny is, which has none.
    """
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigurationError(
            "the MLflow UI is part of the full mlflow package, and only mlflow-skinny is installed; "
            "install it: pip install 'mlflow_pipes[mlflow]'"
        ) from None


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def chosen_port(host: str, wanted: int | None) -> int:
    """Return the port to listen on: the wanted one, else MLflow's usual one or, where that is taken, any free one.

    Raises:
        ConfigurationError: the wanted one is taken.
    """
    if wanted is not None:
        if not is_free(host, wanted):
            raise ConfigurationError(f"port {wanted} of {host} is taken; leave --port away to have a free one chosen")
        return wanted
    if is_free(host, USUAL_PORT):
        return USUAL_PORT
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class MlflowUi:
    """A running MLflow server. A context manager that stops it."""

    def __init__(self, store_uri: str, artifacts: Path, *, host: str, port: int, log: Path) -> None:
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._log = log
        words = ["server", "--backend-store-uri", store_uri, "--default-artifact-root", artifacts.as_uri()]
        words += ["--host", host, "--port", str(port), "--workers", "1"]
        environ = {name: text for name, text in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        # Eight more processes and 2 GB, for scoring in the background that nobody asked of us.
        environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop it and its workers
            )

    def wait_until_it_answers(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return once the UI can be opened.

        Raises:
            TrackingError: it ended, or does not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise TrackingError(f"the MLflow server ended at once; its last words:\n{self._last_words()}")
            health = f"{self.url}/health"
            with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(health, timeout=2):  # noqa: S310 - http
                return
            time.sleep(0.1)
        raise TrackingError(f"the MLflow server does not answer at {self.url} after {timeout_s:g} s; see {self._log}")

    def wait(self) -> None:
        """Return when the server has ended by itself.

        Raises:
            TrackingError: always; it should not have.
        """
        code = self._process.wait()
        raise TrackingError(f"the MLflow server ended with exit code {code}; its last words:\n{self._last_words()}")

    def stop(self) -> None:
        """Stop the server and its workers. Idempotent."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
                break

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
