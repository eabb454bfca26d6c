"""What a project says about where and how its pipelines run: ``pipes.toml``, or ``[tool.pipes]`` in ``pyproject.toml``.

::

    workspace = ".pipes"            # folder, relative to this file
    target = "local"                # where steps run unless they or the run say otherwise
    tracking_uri = "http://..."     # an MLflow server; without it a store in the workspace
    experiment = "flights"          # without it each pipeline has its own
    ledger = "postgresql://user:${PASSWORD_VARIABLE}@host/database?schema=pipes"    # without it SQLite in the workspace

    [targets.local]
    type = "local"
    workers = 4
    memory = "8 GiB"
    gpus = 2
    shared = true                   # runs of this workspace share it: together they get no more than it has

    [tokens]                        # how many there are of what steps hold while they run: @step(tokens="database")
    database = 4

    [environments.training]         # what @step(environment="training") runs with: see docs/environments.md
    requirements = ["scikit-learn==1.5.2"]

    [environ]                       # set in worker processes; never secrets
    OMP_NUM_THREADS = "1"

What is passed in a call or on the command line comes first, then environment variables (``PIPES_WORKSPACE``,
``PIPES_TARGET``, ``PIPES_LEDGER``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``), then the file, then defaults.
The file's ``ledger`` belongs to the workspace that the file or the environment names: another one that is opened by its
folder has its own, unless it was made with this one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.attached_targets import attached_targets
from mlflow_pipes.workspace.checked_tables import Table, above_zero, listed, text, texts, toml_file
from mlflow_pipes.workspace.declared_environments import read_environments
from mlflow_pipes.workspace.ledger.place import PostgresqlPlace, is_workspace, parse_place, remembered_place
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, read_target
from mlflow_pipes.workspace.target_types import ALWAYS_THERE

# A folder that holds one of these is a project.
PROJECT_MARKERS = ("pipes.toml", "pyproject.toml", ".git")
DEFAULT_WORKSPACE = ".pipes"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What holds for the pipelines of one project, all sources taken together.

    Attributes:
        folder: the project's: where the configuration file is, else where a project was found, else the working folder.
        workspace: the workspace's folder, absolute.
        target: name of the default target.
        targets: by name; ``local`` and ``inline`` are always there.
        tracking_uri: of the user's MLflow; None for the store in the workspace.
        experiment: None for one a pipeline, of its name.
        environ: environment variables for worker processes.
        environments: what steps can name to run with, by name.
        tokens: how many there are of each token for all runs of the workspace together.
        ledger: where the ledger is; None for a SQLite file in the workspace.
        file: what was read, None when there is no configuration file.
    """

    folder: Path
    workspace: Path
    target: str = "local"
    targets: Mapping[str, TargetConfiguration] = field(default_factory=dict)
    tracking_uri: str | None = None
    experiment: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, Environment] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    ledger: PostgresqlPlace | None = None
    file: Path | None = None

    def step_environ(self, folder: Path) -> dict[str, str]:
        """Return the environment variables that every attempt of a run in the workspace *folder* gets."""
        own = f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"
        return {**self.environ, "PIPES_MLFLOW_URI": self.tracking_uri or own}


def load(
    start: Path | None = None,
    *,
    workspace: Path | str | None = None,
    target: str | None = None,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Configuration:
    """Return the configuration that holds in folder *start* (by default the working folder); arguments come first.

    Raises:
        ConfigurationError: naming the file, the key and, for a slip of the pen, the near name.
    """
    start = (start or Path.cwd()).resolve()
    given = None if workspace is None else workspace_folder(workspace, start)
    file, written = _find_file(given.parent if given and given.name == DEFAULT_WORKSPACE else start)
    folder = file.parent if file else find_project(start)
    table = Table(written, str(file) if file else "the configuration")
    table.check_keys(KEYS)
    named = environ.get("PIPES_WORKSPACE") or table.read("workspace", text)
    base = start if environ.get("PIPES_WORKSPACE") else folder
    usual = workspace_folder(named, base) if named else folder / DEFAULT_WORKSPACE
    home = given or usual
    targets = _targets(table.table("targets"), home)
    chosen = target or environ.get("PIPES_TARGET") or table.read("target", text) or "local"
    if chosen not in targets:
        raise ConfigurationError(f"there is no target {chosen!r}{suggest(chosen, targets)} (known: {listed(targets)})")
    return Configuration(
        folder=folder,
        workspace=home,
        target=chosen,
        targets=targets,
        tracking_uri=tracking_uri or environ.get("MLFLOW_TRACKING_URI") or table.read("tracking_uri", text),
        experiment=experiment or environ.get("MLFLOW_EXPERIMENT_NAME") or table.read("experiment", text),
        environ=table.read("environ", texts) or {},
        environments=read_environments(table.table("environments")) if "environments" in written else {},
        tokens=_tokens(table.table("tokens")),
        ledger=_ledger(table, environ, home, usual=home == usual),
        file=file,
    )


def workspace_folder(path_or_url: Path | str, base: Path) -> Path:
    """Return the folder that a path or ``file:`` URL names; of a project's folder, the ``.pipes`` inside."""
    text = str(path_or_url)
    if re.match(r"[a-z][a-z0-9+.-]+://", text):
        parts = urlsplit(text)
        if parts.scheme != "file":
            raise ConfigurationError(
                f"a workspace at {parts.scheme}://... is not possible: give a folder on this machine (a path or file:///...)"
            )
        text = unquote(parts.path)
    folder = (base / Path(text).expanduser()).resolve()
    is_project = any((folder / marker).exists() for marker in PROJECT_MARKERS)
    return folder / DEFAULT_WORKSPACE if is_project and not is_workspace(folder) else folder


def find_project(start: Path) -> Path:
    """Return the nearest folder upwards that is a project, else *start*."""
    for folder in (start, *start.parents):
        if any((folder / marker).exists() for marker in PROJECT_MARKERS):
            return folder
    return start


KEYS = ("workspace", "target", "targets", "tokens", "tracking_uri", "experiment", "environ", "environments", "ledger")
_TOKEN_NAME = re.compile(r"[A-Za-z][\w.-]*")


def _find_file(start: Path) -> tuple[Path | None, Mapping[str, Any]]:
    for folder in (start, *start.parents):
        file = folder / "pipes.toml"
        if file.is_file():
            return file, toml_file(file)
        file = folder / "pyproject.toml"
        if file.is_file():
            table = toml_file(file).get("tool", {}).get("pipes")
            if table is not None:
                if not isinstance(table, dict):
                    raise ConfigurationError(f"{file}: [tool.pipes] must be a table")
                return file, table
    return None, {}


def _targets(tables: Table, home: Path) -> dict[str, TargetConfiguration]:
    """Return all targets; those of the file come before those that were attached to the workspace."""
    targets = {name: TargetConfiguration(name, name) for name in ALWAYS_THERE} | attached_targets(home)
    for name in tables.values:
        targets[name] = read_target(name, tables.table(name))
    return targets


def _ledger(table: Table, environ: Mapping[str, str], folder: Path, *, usual: bool) -> PostgresqlPlace | None:
    if environ.get("PIPES_LEDGER"):
        return parse_place(environ["PIPES_LEDGER"], environ, "PIPES_LEDGER")
    try:
        written = table.read("ledger", text)
    except ConfigurationError:  # not what text says: that would show what stands there
        raise ConfigurationError(f"{table.what('ledger')} must be a text that is not empty") from None
    if not written:
        return None
    place = parse_place(written, environ, table.what("ledger"))
    return place if usual or remembered_place(folder) == str(place) else None


def _tokens(amounts: Table) -> dict[str, float]:
    for name in amounts.values:
        if not _TOKEN_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{amounts.what(name)}: the name of a token begins with a letter and has only letters, digits, "
                "'_', '-' and '.' in it"
            )
    return {name: amounts.read(name, above_zero) for name in amounts.values}
