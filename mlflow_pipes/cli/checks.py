"""What ``pipes doctor`` looks at: each check is ok, a warning or a failure, and says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow_pipes.display.words import count, size
from mlflow_pipes.errors import ConfigurationError

if TYPE_CHECKING:
    from mlflow_pipes.workspace import Workspace
    from mlflow_pipes.workspace.ledger.backends import Cursor

Verdict = Literal["ok", "warn", "fail"]
OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)  # RETURNING and upserts as the ledger writes them
WAL_REFUSED = "it may be on a network file system, where SQLite cannot be shared; put the workspace on a local disk"
LITTLE_DISK_BYTES = 1 << 30
CLOCKS_DIFFER_S = 2.0
SET_CLOCKS = "set both clocks (NTP)"
SLOW_LEDGER_MS = 20.0
PACKAGES = ("mlflow-skinny", "sqlalchemy", "alembic", "pyarrow", "blake3", "cloudpickle")
OPTIONAL_PACKAGES = {"mlflow": "the MLflow UI and serving", "pandas": "data frames", "polars": "polars data frames"}


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        text: what was found.
        remedy: what to do, empty when all is well.
    """

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def machine_checks() -> Iterator[Check]:
    """Check the interpreter, packages and the machine."""
    yield _guarded("python", _python)
    yield _guarded("packages", _packages)
    yield _guarded("optional packages", _optional_packages)
    yield _guarded("cores and memory", _cores)
    yield _guarded("SQLite", _sqlite)
    yield _guarded("port", _port)


def workspace_checks(home: Workspace) -> Iterator[Check]:
    """Check the workspace and where its history goes."""
    yield _guarded("workspace", lambda: _writable(home.folder))
    yield _guarded("ledger", lambda: _ledger(home))
    yield _guarded("disk", lambda: _disk(home.folder))
    yield _guarded("clock", lambda: _clock(home.folder))
    yield _guarded("MLflow store", lambda: _store(home))
    yield _guarded("publisher", lambda: _publisher(home))
    yield _guarded("compute targets", lambda: _targets(home))
    yield _guarded("run configurations", lambda: _run_configurations(home))


def _guarded(name: str, check: Callable[[], tuple[Verdict, str, str]]) -> Check:
    try:
        return Check(name, *check())
    except Exception as error:  # noqa: BLE001 - a doctor does not fall ill
        return Check(name, "fail", f"cannot be checked: {type(error).__name__}: {error}", "PIPES_DEBUG=1 shows more")


def _python() -> tuple[Verdict, str, str]:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return "fail", text, "use Python 3.11 or later"
    return "ok", text, ""


def _packages() -> tuple[Verdict, str, str]:
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if version is None]
    text = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    if missing:
        return "fail", text, f"install: pip install {' '.join(missing)}"
    return "ok", text, ""


def _optional_packages() -> tuple[Verdict, str, str]:
    found = {name: _version(name) for name in OPTIONAL_PACKAGES}
    text = ", ".join(f"{name} {version or '(not installed)'}" for name, version in found.items())
    missing = [f"{name} (for {OPTIONAL_PACKAGES[name]})" for name, version in found.items() if version is None]
    if found["mlflow"] is None:
        return "warn", text, f"pip install 'mlflow_pipes[mlflow]' when you want {', '.join(missing)}"
    return "ok", text, ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> tuple[Verdict, str, str]:
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = psutil.virtual_memory().available
    text = f"{count(usable, 'core')}, {size(free)} of memory free"
    if free < 512 * 1024**2:
        return "warn", text, "end other programs, or use fewer workers (pipes run --workers 1)"
    return "ok", text, ""


def _sqlite() -> tuple[Verdict, str, str]:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return "fail", sqlite3.sqlite_version, "use a Python built with SQLite 3.35 or later"
    return "ok", sqlite3.sqlite_version, ""


def _port() -> tuple[Verdict, str, str]:
    from mlflow_pipes.cli.mlflow_ui import USUAL_PORT, chosen_port

    port = chosen_port("127.0.0.1", None)
    text = f"port {port} of this machine is free"
    return ("ok", text, "") if port == USUAL_PORT else ("ok", f"{text} ({USUAL_PORT} is taken)", "")


def _writable(folder: Path) -> tuple[Verdict, str, str]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return "fail", f"{folder} cannot be written: {error.strerror}", "change its permissions, or give --workspace"
    return "ok", str(folder), ""


def _ledger(home: Workspace) -> tuple[Verdict, str, str]:
    return _sqlite_ledger(home.folder) if home.configuration.ledger is None else _postgresql_ledger(home)


def _postgresql_ledger(home: Workspace) -> tuple[Verdict, str, str]:
    database = home.ledger.database
    version, answer_ms = database.read(_postgresql_facts)
    text = f"{database.place}: PostgreSQL {version}, answers in {answer_ms:.1f} ms"
    if abs(database.clock_ahead_s) > CLOCKS_DIFFER_S:
        return "warn", f"{text}; its clock and this machine's differ by {abs(database.clock_ahead_s):.1f} s", SET_CLOCKS
    if answer_ms > SLOW_LEDGER_MS:
        return "warn", text, "each step of a chain waits for some answers: use a database nearer to this machine"
    if (home.folder / "ledger.db").exists():
        return "ok", f"{text} (ledger.db, the one before, is not used)", ""
    return "ok", text, ""


def _postgresql_facts(cursor: Cursor) -> tuple[str, float]:
    began = time.perf_counter()
    cursor.execute("SELECT current_setting('server_version')")
    (version,) = cursor.fetchone()
    return str(version).split()[0], (time.perf_counter() - began) * 1000


def _sqlite_ledger(folder: Path) -> tuple[Verdict, str, str]:
    connection = sqlite3.connect(folder / "ledger.db", timeout=5)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    bytes_ = (folder / "ledger.db").stat().st_size
    with suppress(FileNotFoundError):  # it goes with the last connection
        bytes_ += (folder / "ledger.db-wal").stat().st_size
    text = f"{size(bytes_)}, journal mode {mode}"
    if sound != "ok":
        return (
            "fail",
            f"{text}: damaged ({sound})",
            "move ledger.db away; results stay in the datastore, history is lost",
        )
    if mode != "wal":
        return "fail", text, WAL_REFUSED
    return "ok", text, ""


def _disk(folder: Path) -> tuple[Verdict, str, str]:
    free = shutil.disk_usage(folder).free
    text = f"{size(free)} free"
    if free < LITTLE_DISK_BYTES:
        return "warn", text, "make room: pipes gc --dry-run tells what it would free"
    return "ok", text, ""


def _clock(folder: Path) -> tuple[Verdict, str, str]:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        skew_s = abs(Path(file.name).stat().st_mtime - time.time())
    if skew_s > CLOCKS_DIFFER_S:
        return "warn", f"the workspace's disk and this machine differ by {skew_s:.1f} s", SET_CLOCKS
    return "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z"), ""


def _store(home: Workspace) -> tuple[Verdict, str, str]:
    from mlflow_pipes.cli.commands.sync import shown_uri

    uri = home.configuration.tracking_uri
    if uri is None:
        database = home.folder / "mlflow" / "mlflow.db"
        text = f"in the workspace ({size(database.stat().st_size)})" if database.exists() else "in the workspace (new)"
        return "ok", text, ""
    shown = shown_uri(uri)
    if not uri.startswith(("http://", "https://")):
        return "ok", f"{shown} (not a server: not asked)", ""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):  # noqa: S310 - http(s), checked above
            return "ok", f"{shown} answers", ""
    except urllib.error.HTTPError as error:
        return "ok", f"{shown} answers ({error.code})", ""
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        return "warn", f"{shown} does not answer: {reason}", "runs go on; when it is back: pipes sync"


def _publisher(home: Workspace) -> tuple[Verdict, str, str]:
    from mlflow_pipes.credentials import without_credentials
    from mlflow_pipes.tracking import embedded

    uri = home.configuration.tracking_uri
    waiting = len(home.ledger.pending(without_credentials(uri) if uri else embedded.NAME, 1000))
    if not waiting:
        return "ok", "MLflow knows everything", ""
    text = f"{'over ' if waiting == 1000 else ''}{count(waiting, 'run')} not told to MLflow yet"
    return "warn", text, f"deliver them: pipes sync; what went wrong: {home.folder / 'publisher.log'}"


def _targets(home: Workspace) -> tuple[Verdict, str, str]:
    """Check that what makes each target is installed and takes its keys; starts none."""
    from mlflow_pipes.workspace.target_configuration import check_target, maker_of

    wrong = []
    for target in home.configuration.targets.values():
        try:
            maker_of(target)
            check_target(target)
        except ConfigurationError as error:
            wrong.append(str(error))
    if wrong:
        return "fail", "; ".join(wrong), "mend pipes.toml, or: pipes compute detach NAME"
    names = ", ".join(sorted(home.configuration.targets))
    return "ok", f"{names}; to try one: pipes compute test NAME", ""


def _run_configurations(home: Workspace) -> tuple[Verdict, str, str]:
    from mlflow_pipes.workspace.run_configuration import RunConfiguration, names
    from mlflow_pipes.workspace.situation import over
    from mlflow_pipes.workspace.target_configuration import check_target, maker_of

    found, wrong = names(home.configuration.folder), []
    for name in found:
        try:
            configuration = RunConfiguration.load(name, home.configuration.folder)
            over(home.configuration, configuration)
            for target in configuration.targets.values():
                maker_of(target)
                check_target(target)
        except ConfigurationError as error:
            wrong.append(str(error))
    if wrong:
        return "fail", "; ".join(wrong), "mend the files that are named"
    return "ok", ", ".join(found) or "there are none", ""
