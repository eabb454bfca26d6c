"""Publishing a workspace's history to MLflow: in a process of its own, besides runs and after them.

::

    python -m mlflow_pipes.workspace.publishing FOLDER [--uri URI]

The orchestrator starts it and goes on; it never imports MLflow and never waits for it.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mlflow_pipes.errors import PipesError, TrackingError

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import TargetEvent
    from mlflow_pipes.model.run import Record
    from mlflow_pipes.tracking.publisher import Destination, Pace
    from mlflow_pipes.workspace.configuration import Configuration
    from mlflow_pipes.workspace.ledger.ledger import SqlLedger
    from mlflow_pipes.workspace.ledger.place import PostgresqlPlace

_logger = logging.getLogger(__name__)

# By environment, not on a command line that everybody can read: they may hold passwords.
_URI = "PIPES_PUBLISH_URI"
_LEDGER = "PIPES_LEDGER"
# The descriptor of the lock that a background publisher is given: it holds it from before it is started.
_LOCK = "PIPES_PUBLISH_LOCK"
_START_AFTER_S = 2.0  # shorter runs are published when they have ended, with all cores theirs
_LOG_BYTES = 1_000_000
_PACKAGE_FOLDER = str(Path(__file__).parents[2])


class PublishWhileRunning:
    """Sees to it that a run appears in MLflow: a ``RunObserver`` that starts the background publisher in time."""

    def __init__(self, folder: Path, configuration: Configuration) -> None:
        self._folder = folder
        self._uri = configuration.tracking_uri
        self._ledger = configuration.ledger
        self._start_at = time.monotonic() + _START_AFTER_S
        self._started = False

    def recorded(self, records: Sequence[Record]) -> None:
        """Start the publisher once the run takes long enough for somebody to look at it meanwhile."""
        del records
        if not self._started and time.monotonic() >= self._start_at:
            self._start()

    def seen(self, event: TargetEvent) -> None:
        """Nothing to do."""

    def run_ended(self) -> None:
        """See to it that a publisher is there for what the run wrote last."""
        self._start()

    def _start(self) -> None:
        self._started = True
        try:
            start_in_background(self._folder, self._uri, self._ledger)
        except OSError as error:
            _logger.warning("cannot start the publisher to MLflow (%s); `pipes sync` does its work", error)


def start_in_background(folder: Path, uri: str | None = None, ledger: PostgresqlPlace | None = None) -> bool:
    """Start the publisher of a workspace unless one is at work; returns within milliseconds. True when started.

    It is a session of its own that gives way, so it neither dies with the terminal nor competes with steps. With
    ``PIPES_PUBLISH=off`` in the environment none is started; ``pipes sync`` then does its work.
    """
    if os.environ.get("PIPES_PUBLISH") == "off":
        return False
    with (folder / "publisher.lock").open("a+b") as lock:
        if not _is_taken(lock):  # by a publisher at work, or one that is only starting: short runs would pile them up
            return False
        _spawn(folder, uri, ledger, lock.fileno())
    return True


def _spawn(folder: Path, uri: str | None, ledger: PostgresqlPlace | None, lock: int) -> None:
    log = folder / "publisher.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    os.set_inheritable(lock, True)  # noqa: FBT003 - the standard library's signature
    environ = {name: value for name, value in os.environ.items() if name not in {_URI, _LEDGER}}
    environ[_LOCK] = str(lock)
    if uri:
        environ[_URI] = uri
    if ledger:
        environ[_LEDGER] = ledger.written
    # Found whatever the working folder, and however mlflow_pipes itself was found.
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_PACKAGE_FOLDER, environ.get("PYTHONPATH")]))
    _reap()
    _started.append(
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "mlflow_pipes.workspace.publishing", str(folder)],
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    )


_started: list[int] = []  # publishers that are this process's children


def _reap() -> None:
    """Let the system forget publishers that have ended."""
    for pid in list(_started):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        _started.remove(pid)


def sync(folder: Path, uri: str | None = None, *, ledger: PostgresqlPlace | None = None, wait_s: float = 60.0) -> int:
    """Deliver now, in this process, all that MLflow has not been told; return how many revisions of runs that were.

    Args:
        folder: the workspace's.
        uri: of the user's MLflow; None for the store in the workspace.
        ledger: where it is when it is not in the workspace.
        wait_s: for a background publisher that is at work to end; it is asked to.

    Raises:
        TrackingError: MLflow does not take it, or another publisher does not end.
    """
    with publisher_ended(folder, wait_s):
        return _sync(folder, uri, ledger)


@contextmanager
def publisher_ended(folder: Path, wait_s: float = 60.0) -> Iterator[None]:
    """Ask the background publisher to end, and keep others from beginning for the time of the block.

    Raises:
        TrackingError: it does not end within *wait_s* seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with _sole_publisher(folder) as alone:
            if alone:
                yield
                return
            _ask_to_end(folder)
        if time.monotonic() > deadline:
            raise TrackingError(
                f"another publisher is at work on {folder} and does not end: see {folder}/publisher.log"
            )
        time.sleep(0.1)


def _sync(folder: Path, uri: str | None, place: PostgresqlPlace | None) -> int:
    from mlflow_pipes.stores.local import LocalDatastore
    from mlflow_pipes.tracking.publisher import Publisher
    from mlflow_pipes.workspace.ledger.ledger import SqlLedger

    with closing(SqlLedger.open(place or folder / "ledger.db")) as ledger, closing(destination(folder, uri)) as there:
        return Publisher(ledger, there, LocalDatastore(folder / "datastore")).drain()


def destination(folder: Path, uri: str | None) -> Destination:
    """Return where the history of a workspace is published to."""
    if uri and uri != own_uri(folder):
        from mlflow_pipes.tracking.client import ClientDestination

        return ClientDestination(uri)
    from mlflow_pipes.tracking.embedded import open_embedded

    return open_embedded(folder / "mlflow")


def own_uri(folder: Path) -> str:
    """Return the tracking URI of the store in a workspace."""
    return f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"


def publish(
    folder: Path,
    uri: str | None,
    pace: Pace | None = None,
    place: PostgresqlPlace | None = None,
    lock: int | None = None,
) -> int:
    """Do the background publisher's work; return its exit code. Ends at once when another one is at work.

    *lock* is the descriptor of the publisher's lock, held already; None to take it.

    A run that ends finds either no publisher and starts one, or one that looks at the outbox after it has given its
    lock back: so nothing is left lying between the two.
    """
    from mlflow_pipes.stores.local import LocalDatastore
    from mlflow_pipes.tracking.publisher import Pace, Publisher, keep_publishing
    from mlflow_pipes.workspace.ledger.ledger import SqlLedger

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with closing(SqlLedger.open(place or folder / "ledger.db")) as ledger:
        while not stop.is_set():
            held, lock = lock, None
            with _sole_publisher(folder, held) as alone:
                if not alone:
                    return 0
                with closing(destination(folder, uri)) as there:
                    publisher = Publisher(ledger, there, LocalDatastore(folder / "datastore"))
                    done = keep_publishing(
                        publisher, has_live_run=lambda: _has_live_run(ledger), pace=pace or Pace(), stop=stop
                    )
            if not done:
                return TrackingError.exit_code
            if not ledger.pending(there.name, 1):
                return 0
    return 0


def _has_live_run(ledger: SqlLedger) -> bool:
    """Return whether a run is going on; one whose orchestrator was killed is marked, and shown, as interrupted."""
    from sqlalchemy import select

    from mlflow_pipes.workspace.ledger import tables

    ledger.interrupt_dead_runs(time.time())
    open_runs = select(tables.runs.c.run_id).where(tables.runs.c.ended_at.is_(None)).limit(1)
    return bool(ledger.database.rows(open_runs))


# -- one publisher a workspace: a lock that the system frees whatever happens to its holder


@contextmanager
def _sole_publisher(folder: Path, held: int | None = None) -> Iterator[bool]:
    with (folder / "publisher.lock").open("a+b") if held is None else os.fdopen(held, "a+b") as file:
        if held is None and not _is_taken(file):
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield True
        file.truncate(0)


def _is_taken(lock: IO[bytes]) -> bool:
    """Take the lock, and tell whether that was possible."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_publishing(folder: Path) -> bool:
    with (folder / "publisher.lock").open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _ask_to_end(folder: Path) -> None:
    written = (folder / "publisher.lock").read_bytes()
    if written.isdigit() and _is_publishing(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(written), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="mlflow_pipes.workspace.publishing", description=__doc__)
    parser.add_argument("folder", type=Path, help="the workspace's folder")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.Formatter.converter = time.gmtime
    from mlflow_pipes.machine.garbage import collected_rarely, end_quickly
    from mlflow_pipes.machine.priority import give_way
    from mlflow_pipes.tracking.quiet import settle
    from mlflow_pipes.workspace.ledger.place import parse_place

    end_quickly()
    give_way()
    settle()
    try:
        written = os.environ.pop(_LEDGER, None)
        place = parse_place(written, os.environ, _LEDGER) if written else None
        uri, lock = os.environ.pop(_URI, None), os.environ.pop(_LOCK, None)
        with collected_rarely():
            return publish(given.folder.resolve(), uri, place=place, lock=None if lock is None else int(lock))
    except PipesError as error:
        _logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
