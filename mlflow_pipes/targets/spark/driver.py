"""The process that Spark's driver lives with, apart from the orchestrator's: ``main`` serves one orchestrator.

It is told what to do in lines of JSON through a socket, and tells in the same way. When the socket ends, it ends Spark
and itself; when it ends, however it does, so does the Java process that it started.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from mlflow_pipes.targets.spark.on_executor import Place, shift
from mlflow_pipes.targets.spark.plan import with_session

_ENDS_WITHIN_S = 10.0
_LOOK_EVERY_S = 1.0
_ANSWERS_WITHIN_S = 10.0


class Driver:
    """Spark, as an orchestrator uses it.

    Args:
        setup: ``master``, ``settings``, ``python``, ``name``, ``host``, ``port``, ``secret``, ``token``; and
            ``folder``, which is removed at the end.
        say: tells the orchestrator something.

    Attributes:
        is_ending: it is about to end.
    """

    def __init__(self, setup: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
        self._setup = setup
        self._say = say
        self._tag = f"mlflow_pipes-{os.getpid()}-{setup['port']}"
        self._remote = ""
        self.is_ending = False
        self._running = 0
        self._sessions: set[str] = set()
        self._releasing: list[threading.Thread] = []
        self._counting = threading.Lock()
        _check_reachable(setup["master"])
        self._spark = self._connected() if self.is_connect else self._started()

    @property
    def is_connect(self) -> bool:
        """Whether the driver is a server of somebody else's."""
        return str(self._setup["master"]).startswith("sc://")

    def _started(self) -> Any:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master(self._setup["master"]).appName(self._setup["name"])
        for name, value in self._setup["settings"].items():
            builder = builder.config(name, value)
        return builder.getOrCreate()

    def wait_for_java(self) -> None:
        """Return when the Java process of a driver of our own has ended."""
        self._spark.sparkContext._gateway.proc.wait()  # noqa: SLF001 - py4j tells only who uses it

    def _connected(self) -> Any:
        from pyspark.sql import SparkSession

        self._remote = self._setup["master"]
        spark = SparkSession.builder.remote(self._remote).create()
        if self._setup["python"]:
            spark.conf.set("spark.sql.execution.pyspark.python", self._setup["python"])
        spark.range(1).count()  # who is there is known by its answer
        return spark

    def facts(self) -> dict[str, Any]:
        """Return what the orchestrator wants to know of this Spark."""
        if self.is_connect:
            return {"version": self._spark.version, "tasks": 0, "task_cpus": 1, "grows": True}
        conf = self._spark.sparkContext.getConf()
        grows = conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true"
        task_cpus = int(conf.get("spark.task.cpus", "1"))
        tasks = max(1, self._spark.sparkContext.defaultParallelism // task_cpus)
        return {"version": self._spark.version, "tasks": tasks, "task_cpus": task_cpus, "grows": grows}

    # --- what it is told ------------------------------------------------------------------------------------------

    def do(self, told: dict[str, Any]) -> None:
        """Do one thing; what takes long is done by a thread."""
        match told["do"]:
            case "tasks":
                self._in_thread(lambda: self._begin_tasks(told["job"], told["count"]))
            case "session":
                self._in_thread(self._open_sessions)
            case "hold":
                self._sessions.add(told["session"])
            case "forget":
                self._sessions.discard(told["session"])
            case "release":
                self._releasing.append(self._in_thread(lambda: self._release(told["session"])))

    def _in_thread(self, call: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        return thread

    def _begin_tasks(self, job: str, count: int) -> None:
        place = Place(self._setup["host"], self._setup["port"], bytes.fromhex(self._setup["secret"]), job)
        error = ""
        with self._counting:
            self._running += 1
            if self._running == 1 and not self.is_connect:
                self._in_thread(self._watch)
        try:
            self._tagged()
            found = self._spark.range(0, count, 1, count).mapInArrow(shift(place), "id long")
            found.write.format("noop").mode("overwrite").save()
        except Exception as failed:  # noqa: BLE001 - whatever Spark says is told to the orchestrator
            error = str(failed) or type(failed).__name__
        with self._counting:
            self._running -= 1
        self._say({"job": job, "error": error})

    def _tagged(self) -> None:
        if self.is_connect:
            self._spark.addTag(self._tag)
        else:
            self._spark.sparkContext.addJobTag(self._tag)
            self._spark.sparkContext.setJobDescription(self._setup["name"])

    def _watch(self) -> None:
        """Tell how much room there is, while tasks are under way."""
        told = None
        while self._running:
            with suppress(Exception):  # it may be ending
                facts = self.facts()
                if facts != told:
                    self._say({"facts": facts})
                    told = facts
            time.sleep(_LOOK_EVERY_S)

    def _open_sessions(self) -> None:
        """Tell where sessions are: at the server that we use, or at one that the driver becomes."""
        error = ""
        try:
            if not self._remote:
                context = self._spark.sparkContext
                package = context._jvm.org.apache.spark.sql.connect.service  # noqa: SLF001
                service = getattr(getattr(package, "SparkConnectService$"), "MODULE$")  # Scala's object, with its port
                service.start(context._jsc.sc())  # noqa: SLF001 - as Spark's own plugin does
                self._remote = f"sc://localhost:{service.localPort()}/;token={self._setup['token']}"
        except Exception as failed:  # noqa: BLE001 - as above
            error = str(failed) or type(failed).__name__
        self._say({"session": self._remote, "error": error})

    def _release(self, session: str) -> None:
        """Stop what a session does, and forget it."""
        from pyspark.sql.connect.session import SparkSession

        error = ""
        try:
            found = SparkSession.builder.remote(with_session(self._remote, session)).create()
            found.interruptAll()
            found.client.release_session()
            found.client.close()
        except Exception as failed:  # noqa: BLE001 - as above
            error = str(failed) or type(failed).__name__
        self._sessions.discard(session)
        self._say({"released": session, "error": error})

    def end(self) -> None:
        """Cancel what is under way, and end Spark; waits for its end."""
        self.is_ending = True
        if self.is_connect:  # else they end with Java
            for session in list(self._sessions):
                self.do({"do": "release", "session": session})
            for thread in self._releasing:
                thread.join(_ENDS_WITHIN_S / 2)
        with suppress(Exception):
            if self.is_connect:
                self._spark.interruptTag(self._tag)
            else:
                self._spark.sparkContext.cancelJobsWithTag(self._tag)
        java = None if self.is_connect else self._spark.sparkContext._gateway.proc  # noqa: SLF001 - as below
        with suppress(Exception):
            self._spark.stop()
        if java is not None:
            java.stdin.close()
            with suppress(Exception):
                java.wait(_ENDS_WITHIN_S / 2)  # it removes its files


def _check_reachable(master: str) -> None:
    """Raise ``ConnectionError`` when nobody listens at a master's address: Spark itself would try for minutes."""
    if master.startswith("sc://") and any(name.lower().endswith("_proxy") for name in os.environ):
        return
    places = re.findall(r"([^:/;,]+):(\d+)", master.partition("://")[2].partition("/")[0])
    errors = []
    for host, port in places if master.startswith(("sc://", "spark://")) else ():
        try:
            socket.create_connection((host, int(port)), _ANSWERS_WITHIN_S).close()
            return
        except OSError as error:
            errors.append(f"{host}:{port}: {error}")
    if errors:
        raise ConnectionError(f"Failed to connect to {', '.join(errors)}")


def _lines(channel: socket.socket) -> Iterator[dict[str, Any]]:
    with suppress(OSError), channel.makefile("r", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _prepare(setup: dict[str, Any]) -> None:
    os.environ.update(setup["environ"])
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    for name in ("SPARK_REMOTE", "SPARK_LOCAL_REMOTE", "SPARK_CONNECT_MODE_ENABLED"):
        os.environ.pop(name, None)  # the master is what is configured, and nothing else
    if setup["python"]:
        os.environ["PYSPARK_PYTHON"] = setup["python"]
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def _end_with_java(driver: Driver) -> None:
    driver.wait_for_java()
    if not driver.is_ending:
        os._exit(1)


def main() -> None:
    """Serve the orchestrator at the other end of the socket whose descriptor is the argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    saying = threading.Lock()
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    is_up = threading.Event()

    def say(what: dict[str, Any]) -> None:
        with saying, suppress(OSError):
            channel.sendall(json.dumps(what).encode() + b"\n")

    def listen() -> None:
        for told in _lines(channel):
            orders.put(told)
        if not is_up.is_set():
            os._exit(0)  # Java ends when we do
        orders.put(None)
        time.sleep(_ENDS_WITHIN_S)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    setup = orders.get()
    assert setup is not None
    _prepare(setup)
    try:
        driver = Driver(setup, say)
    except BaseException as error:  # noqa: BLE001 - pyspark ends the process by SystemExit, too
        traceback.print_exc()
        say({"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    is_up.set()
    say({"facts": driver.facts(), "ready": True})
    if not driver.is_connect:
        threading.Thread(target=_end_with_java, args=(driver,), daemon=True).start()
    while (told := orders.get()) is not None:
        driver.do(told)
    driver.end()
    shutil.rmtree(setup["folder"], ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
