"""Having workers of a Dask cluster stop attempts and end stations, without waiting for those that do not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_pipes.model.attempt import AttemptId, FailureKind

if TYPE_CHECKING:
    from mlflow_pipes.targets.dask.connection import Connection
    from mlflow_pipes.targets.dask.tasks import Task


def leave(connection: Connection, within_s: float) -> None:
    """Have all workers end their stations of ours, and wait for that as long as is said."""
    leaving = threading.Thread(target=_leave, args=(connection,), daemon=True)
    leaving.start()
    leaving.join(within_s)


def _leave(connection: Connection) -> None:
    with suppress(Exception):  # workers that are gone have no stations
        connection.leave()


class Stopping:
    """Asks all workers, in threads of its own.

    Args:
        setup: of their stations.
        patience_s: how long to wait for their answers.
        fail: answers for tasks that no worker answers for: they had not begun.
    """

    def __init__(
        self, setup: bytes, patience_s: float, fail: Callable[[Sequence[Task], FailureKind, str], None]
    ) -> None:
        self._setup = setup
        self._patience_s = patience_s
        self._fail = fail

    def stop(self, connection: Connection, tasks: Sequence[Task], kind: FailureKind, message: str) -> None:
        """Have tasks stopped. Workers answer for what is under way there; for the rest *fail* does; returns at once."""
        threading.Thread(target=self._ask, args=(connection, tasks, kind, message), daemon=True).start()

    def stop_strays(self, connection: Connection, attempts: Sequence[AttemptId]) -> None:
        """Have attempts stopped that are answered for, and that Dask began again; returns at once."""
        threading.Thread(target=self._broadcast, args=(connection, attempts, set()), daemon=True).start()

    def _ask(self, connection: Connection, tasks: Sequence[Task], kind: FailureKind, message: str) -> None:
        attempts = [task.attempt for task in tasks]
        known: set[AttemptId] = set()
        asking = threading.Thread(target=self._broadcast, args=(connection, attempts, known), daemon=True)
        asking.start()
        asking.join(self._patience_s)
        if asking.is_alive():
            message = f"{kind.value}; a worker did not answer for {self._patience_s:g} s and may still be at it"
        self._fail([task for task in tasks if task.attempt not in known], kind, message)

    def _broadcast(self, connection: Connection, attempts: Sequence[AttemptId], known: set[AttemptId]) -> None:
        with suppress(Exception):  # workers that are gone have nothing under way
            known.update(connection.stop(self._setup, attempts))
