"""``Workspace``: a folder with all that a project's pipelines leave behind, and the parts that work on it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.workspace.configuration import Configuration, load
from mlflow_pipes.workspace.file_memo import SqliteFileMemo
from mlflow_pipes.workspace.ledger.place import check_place, remember_place
from mlflow_pipes.workspace.runs import Runs

if TYPE_CHECKING:
    from mlflow_pipes.environments import Environments
    from mlflow_pipes.lifecycle.services import ServiceRegistry
    from mlflow_pipes.model.graph import Graph
    from mlflow_pipes.ports import Clock, RunObserver
    from mlflow_pipes.workspace.compute_targets import ComputeTargets
    from mlflow_pipes.workspace.ledger.ledger import SqlLedger

# https://bford.info/cachedir/: backup programs leave such folders out.
_CACHEDIR_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# A workspace of mlflow_pipes: results that can be computed again, and the history of runs.\n"
)


class SystemClock:
    """The machine's clocks: ``ports.Clock``."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from some zero, never going back."""
        return time.monotonic()


class Workspace:
    """Where runs, results and services of a project live. Made by :meth:`open`; closed by itself as a context manager.

    Several processes may have the same workspace open.

    Attributes:
        folder: absolute; holds ``ledger.db`` (or ``ledger.url``, which says where it is), ``datastore/``,
            ``checkout/``, ``scratch/``, ``logs/``, ``mlflow/`` ...
        configuration: what the project's configuration file and the environment say.
        datastore: blobs by digest.
        file_memo: digests of input files.
        clock: where time comes from.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.configuration = configuration
        self.folder = configuration.workspace
        self.datastore = LocalDatastore(self.folder / "datastore")
        self.file_memo = SqliteFileMemo(self.folder / "files.db")

    @classmethod
    def open(cls, path_or_url: str | Path | None = None, *, configuration: Configuration | None = None) -> Workspace:
        """Open a workspace, made when it is not there.

        Args:
            path_or_url: its folder, as a path or ``file:`` URL (of a project's folder: the ``.pipes`` inside); by
                default what the environment or the project's configuration says, else ``.pipes`` beside the project
                that the working folder is in.
            configuration: instead of reading one.

        Raises:
            ConfigurationError: the folder cannot be made or written, or the configuration is wrong.
            LedgerError: its ledger cannot be used.
        """
        workspace = located(path_or_url, configuration=configuration)
        open_ledger(workspace)
        return workspace

    @cached_property
    def ledger(self) -> SqlLedger:
        """Runs, cache entries and claims; also the outbox for MLflow."""
        from mlflow_pipes.workspace.ledger.ledger import SqlLedger

        place = self.configuration.ledger
        check_place(self.folder, place)
        opened = SqlLedger.open(place or self.folder / "ledger.db")
        remember_place(self.folder, place)
        return opened

    @cached_property
    def runs(self) -> Runs:
        """Past and present runs."""
        return Runs(self.ledger, self.datastore, self.folder / "checkout", self.clock.now)

    @cached_property
    def environments(self) -> Environments:
        """What steps can run with, and what of it is built here."""
        from mlflow_pipes.environments import Environments

        return Environments(self.folder / "environments", self.configuration.folder, self.configuration.environments)

    @cached_property
    def compute(self) -> ComputeTargets:
        """Compute targets: those of the configuration, and those that were attached."""
        from mlflow_pipes.workspace.compute_targets import ComputeTargets

        return ComputeTargets(self)

    @cached_property
    def services(self) -> ServiceRegistry:
        """Deployed web services."""
        from mlflow_pipes.lifecycle.services import ServiceRegistry

        return ServiceRegistry.of_workspace(self.folder)

    @contextmanager
    def showing(self, observers: Sequence[RunObserver] | None, graph: Graph) -> Iterator[list[RunObserver]]:
        """Give those who see a run: the given ones, or for None what suits the terminal; the terminal's is closed."""
        if observers is not None:
            yield list(observers)
            return
        from mlflow_pipes.display import observer_for

        display = observer_for(graph=graph)
        if display is None:
            yield []
            return
        try:
            yield [display]
        finally:
            display.close()

    def close(self) -> None:
        """Close its databases; idempotent. Services and running runs are left alone."""
        ledger = self.__dict__.get("ledger")
        if ledger is not None:
            ledger.close()
        self.file_memo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.folder)!r})"


def located(path_or_url: str | Path | None = None, *, configuration: Configuration | None = None) -> Workspace:
    """Return a workspace as :meth:`Workspace.open` does, but with its ledger closed: opening that takes 0.4 s."""
    workspace = Workspace(configuration or load(workspace=path_or_url))
    _make_folder(workspace.folder)
    return workspace


def open_ledger(workspace: Workspace) -> None:
    """Open a workspace's ledger if it is not open, and mark runs whose orchestrator died. Errors come from here."""
    if "ledger" not in vars(workspace):
        workspace.ledger  # noqa: B018 - a property that is kept
        workspace.runs.mark_interrupted()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "CACHEDIR.TAG").exists() and not any(folder.iterdir()):
            # Never in a folder with other things in it: a .gitignore there would hide them.
            write_whole(folder / ".gitignore", "*\n")
            write_whole(folder / "CACHEDIR.TAG", _CACHEDIR_TAG)
        for name in ("datastore", "logs", "checkout", "scratch"):
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make the workspace {folder}: {error.strerror or error}: {error.filename}. Give it another "
            f"place: Workspace.open(folder), PIPES_WORKSPACE, or workspace = ... in pipes.toml"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(
            f"cannot write in the workspace {folder}. Change its permissions, or give another place: "
            f"Workspace.open(folder), PIPES_WORKSPACE, or workspace = ... in pipes.toml"
        )
