"""Real Spark for tests: a standalone cluster and a Connect server as processes on loopback, or a skip with the reason."""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow_pipes.errors import TargetError
from mlflow_pipes.targets.spark.java import java_home


def missing():
    """Return what is missing for Spark; empty when nothing is."""
    if importlib.util.find_spec("pyspark") is None:
        return "no pyspark here: pip install 'mlflow_pipes[spark]'"
    try:
        java_home(os.environ, Path(tempfile.gettempdir()))
    except TargetError as error:
        return str(error)
    return ""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed test run leaves no Java behind


# Java spends most of these tests on loading classes: to verify them and compile them well would cost more than it saves.
_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
CONF = {"spark.driver.extraJavaOptions": _QUICK}


class SparkProcesses:
    """Java processes that end with the tests."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pipes-spark-"))
        self.running = []
        spec = importlib.util.find_spec("pyspark")
        self._home = Path(spec.origin).parent
        home = java_home(os.environ, self.folder)
        self._environ = {
            **os.environ,
            **({"JAVA_HOME": home} if home else {}),
            "SPARK_HOME": str(self._home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(self.folder / "local"),
            "SPARK_DAEMON_MEMORY": "640m",
            "SPARK_DAEMON_JAVA_OPTS": _QUICK,
            "PYSPARK_PYTHON": sys.executable,
        }

    def start(self, program, *arguments):
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(self._home / "bin" / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environ,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - it takes no lock
            )
        self.running.append(process)
        return process

    def wait_for(self, port, process):
        end = time.monotonic() + 150
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError("Spark does not start: " + (self.folder / "log").read_text()[-3000:])

    def remove(self):
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class StandaloneCluster(SparkProcesses):
    """A master and two workers of two processors each: room for two drivers of two."""

    def __init__(self):
        super().__init__()
        port = free_port()
        self.master = f"spark://127.0.0.1:{port}"
        common = ("--host", "127.0.0.1", "--webui-port", "0")
        main = "org.apache.spark.deploy.master.Master"
        master = self.start("spark-class", main, *common, "--port", str(port))
        self.wait_for(port, master)
        for number in range(2):
            self.start(
                "spark-class",
                "org.apache.spark.deploy.worker.Worker",
                self.master,
                *common,
                *("--cores", "2", "--memory", "1g", "--work-dir", str(self.folder / f"work{number}")),
            )

    options = {  # noqa: RUF012 - nobody changes it
        "conf": {
            **CONF,
            "spark.executor.extraJavaOptions": _QUICK,
            "spark.executor.memory": "512m",
            "spark.executor.cores": "1",
            "spark.cores.max": "2",
        },
        "connect_timeout_s": 150.0,
    }


class ConnectServer(SparkProcesses):
    """A Spark Connect server with two executor threads in it."""

    def __init__(self):
        super().__init__()
        port = free_port()
        self.master = f"sc://127.0.0.1:{port}"
        settings = {
            "spark.connect.grpc.binding.port": str(port),
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": "2",
            **CONF,
        }
        main = "org.apache.spark.sql.connect.service.SparkConnectServer"
        given = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        server = self.start("spark-submit", "--class", main, "--master", "local[2]", *given)
        self.wait_for(port, server)

    options = {"connect_timeout_s": 150.0}  # noqa: RUF012 - nobody changes it


class InTheDriver:
    """Spark in a target's own driver: there is nothing to start before."""

    master = "local[2]"
    options = {"conf": CONF, "connect_timeout_s": 150.0}  # noqa: RUF012 - nobody changes it

    def remove(self):
        """Nothing is left to remove."""


class KeptOpen:
    """A target that stays open from test to test, because Spark takes seconds to start: a port around a started one.

    To close it ends all attempts, as a target does that is closed, and leaves Spark.
    """

    def __init__(self, target):
        self.inner = target
        self._report = lambda _: None
        self._open_attempts = set()
        self._is_open = False
        target.start(self._on_event)

    @property
    def name(self):
        return self.inner.name

    def start(self, report):
        self._report = report
        self._is_open = True

    def capacity(self):
        return self.inner.capacity()

    def submit(self, assignment):
        if not self._is_open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        self._open_attempts.add(assignment.attempt)
        self.inner.submit(assignment)

    def cancel(self, attempt):
        self.inner.cancel(attempt)

    def close(self):
        self._is_open = False
        for attempt in list(self._open_attempts):
            self.inner.cancel(attempt)
        end = time.monotonic() + 20
        while self._open_attempts and time.monotonic() < end:
            time.sleep(0.005)
        assert not self._open_attempts

    def _on_event(self, event):
        self._report(event)
        if hasattr(event, "ended_at"):
            self._open_attempts.discard(event.attempt)
