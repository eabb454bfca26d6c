"""What a task of Spark's does: it comes to the orchestrator for attempts, and does them until it is sent away.

The attempts run in a child process of the task's, as at every station. Who kills the task, or its executor, ends them.
"""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_pipes.errors import PipesError
from mlflow_pipes.targets.spark.greeting import Arrived, Look, greet, hear, say

SILENCE_S = 15.0
"""A connection on which nothing was heard for so long is taken for broken; work that is under way there ends."""

_CONNECTS_WITHIN_S = 30.0


class Place(NamedTuple):
    """Where a task goes for work.

    Attributes:
        job: which one it belongs to.
    """

    host: str
    port: int
    secret: bytes
    job: str


def shift(place: Place) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Return what ``mapInArrow`` calls in each task; it yields nothing."""

    def work(batches: Iterator[Any]) -> Iterator[Any]:
        for _ in batches:  # Spark uses a process again only when its input was read
            pass
        do_attempts(place)
        yield from ()

    return work


def do_attempts(place: Place) -> None:
    """Do attempts for an orchestrator until it sends us away, or is gone."""
    from mlflow_pipes.targets.station.cleaning import clean
    from mlflow_pipes.targets.station.serve import Session, session_folder

    try:
        connection = socket.create_connection((place.host, place.port), _CONNECTS_WITHIN_S)
    except OSError as error:
        raise ConnectionError(
            f"mlflow_pipes: {socket.gethostname()} cannot reach the run at {place.host}:{place.port} ({error})"
        ) from None
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greet(connection, place.secret)
        look = hear(connection)
        folder = _our_folder()
        say(connection, Arrived(place.job, socket.gethostname(), str(folder), _sees(look)))
        with session_folder(folder) as own:
            session = Session(own, 4 * SILENCE_S)
            session.serve_connection(connection)
    with suppress(OSError, PipesError):
        clean(folder, session.store)


def _sees(look: Look) -> bool:
    try:
        return look.blob in pickle.loads(look.datastore).has([look.blob])
    except (PipesError, OSError):
        return False


def _our_folder() -> Path:
    """Return our folder here: where Spark has its own, which goes with the application, else with temporary files."""
    named = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS") or tempfile.gettempdir()
    folder = Path(named.split(",")[0]) / f"mlflow_pipes-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"mlflow_pipes: {folder} is somebody else's; remove it, or set SPARK_LOCAL_DIRS")
    return folder.absolute()
