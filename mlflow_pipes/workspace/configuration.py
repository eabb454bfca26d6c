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

    [environ]                       # set in worker processes; never secrets
    OMP_NUM_THREADS = "1"

What is passed in a call or on the command line comes first, then environment variables (``PIPES_WORKSPACE``,
``PIPES_TARGET``, ``PIPES_LEDGER``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``), then the file, then defaults.
The file's ``ledger`` belongs to the workspace that the file or the environment names: another one that is opened by its
folder has its own, unless it was made with this one.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.wording import bytes_in
from mlflow_pipes.workspace.ledger.place import PostgresqlPlace, is_workspace, parse_place, remembered_place

Table: TypeAlias = Mapping[str, Any]

# A folder that holds one of these is a project.
PROJECT_MARKERS = ("pipes.toml", "pyproject.toml", ".git")
DEFAULT_WORKSPACE = ".pipes"


@dataclass(frozen=True, slots=True)
class TargetConfiguration:
    """A compute target that steps can name.

    Attributes:
        type: which kind of target.
        workers: worker processes; None for as many as there are cores.
        cpus: sum of the ``cpus`` of steps that run at once; None for one a worker.
        memory_bytes: sum of the ``memory`` of steps that run at once; 0 for no limit.
        gpus: how many graphics processors steps can have; None for as many as the machine has.
        shared: all runs of the workspace together get no more than the target has.
        options: of a type that another package offers: its whole table but ``type``, which that package checks.
    """

    name: str
    type: str
    workers: int | None = None
    cpus: float | None = None
    memory_bytes: int = 0
    gpus: int | None = None
    shared: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


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
    file, table = _find_file(given.parent if given and given.name == DEFAULT_WORKSPACE else start)
    folder = file.parent if file else find_project(start)
    where = str(file) if file else "the configuration"
    _check_keys(table, KEYS, where, "")
    named = environ.get("PIPES_WORKSPACE") or _text(table, "workspace", where)
    base = start if environ.get("PIPES_WORKSPACE") else folder
    usual = workspace_folder(named, base) if named else folder / DEFAULT_WORKSPACE
    home = given or usual
    targets = _targets(table, where)
    chosen = target or environ.get("PIPES_TARGET") or _text(table, "target", where) or "local"
    if chosen not in targets:
        raise ConfigurationError(f"there is no target {chosen!r}{suggest(chosen, targets)} (known: {_listed(targets)})")
    return Configuration(
        folder=folder,
        workspace=home,
        target=chosen,
        targets=targets,
        tracking_uri=tracking_uri or environ.get("MLFLOW_TRACKING_URI") or _text(table, "tracking_uri", where) or None,
        experiment=experiment or environ.get("MLFLOW_EXPERIMENT_NAME") or _text(table, "experiment", where) or None,
        environ=_environ(table, where),
        tokens=_tokens(table, where),
        ledger=_ledger(table, where, environ, home, usual=home == usual),
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


KEYS = ("workspace", "target", "targets", "tokens", "tracking_uri", "experiment", "environ", "ledger")
_TOKEN_NAME = re.compile(r"[A-Za-z][\w.-]*")
_ENTRY_POINTS = "mlflow_pipes.compute_targets"
_TARGET_TYPES = ("inline", "local")
TARGET_KEYS = {"inline": ("type",), "local": ("type", "workers", "cpus", "memory", "gpus", "shared")}


def _find_file(start: Path) -> tuple[Path | None, Table]:
    for folder in (start, *start.parents):
        file = folder / "pipes.toml"
        if file.is_file():
            return file, _read(file)
        file = folder / "pyproject.toml"
        if file.is_file():
            table = _read(file).get("tool", {}).get("pipes")
            if table is not None:
                if not isinstance(table, dict):
                    raise ConfigurationError(f"{file}: [tool.pipes] must be a table")
                return file, table
    return None, {}


def _read(file: Path) -> Table:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror or error}") from error


def _targets(table: Table, where: str) -> dict[str, TargetConfiguration]:
    targets = {name: TargetConfiguration(name, name) for name in _TARGET_TYPES}
    for name, options in _table(table, "targets", where).items():
        place = f"targets.{name}"
        if not isinstance(options, dict):
            raise _wrong(where, place, "a table", options)
        type_ = _text(options, "type", where, place) or name
        if type_ not in _TARGET_TYPES:
            _check_offered(type_, where, place)
            others = {key: value for key, value in options.items() if key not in {"type", "shared"}}
            targets[name] = TargetConfiguration(
                name, type_, shared=_flag(options, "shared", where, place), options=others
            )
            continue
        _check_keys(options, TARGET_KEYS[type_], where, place)
        targets[name] = TargetConfiguration(
            name,
            type_,
            workers=_whole(options, "workers", 1, where, place),
            cpus=_positive(options, "cpus", where, place),
            memory_bytes=_size(options, "memory", where, place),
            gpus=_whole(options, "gpus", 0, where, place),
            shared=_flag(options, "shared", where, place),
        )
    return targets


def _check_offered(type_: str, where: str, place: str) -> None:
    from importlib.metadata import entry_points

    known = {*_TARGET_TYPES, *(point.name for point in entry_points(group=_ENTRY_POINTS))}
    if type_ not in known:
        raise ConfigurationError(
            f"{where}: {place}.type: there is no type {type_!r}{suggest(type_, known)} (known: {_listed(known)})"
        )


def _whole(options: Table, key: str, least: int, where: str, place: str) -> int | None:
    number = options.get(key)
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise _wrong(where, f"{place}.{key}", f"a whole number of at least {least}", number)
    return number


def _flag(options: Table, key: str, where: str, place: str) -> bool:
    flag = options.get(key, False)
    if not isinstance(flag, bool):
        raise _wrong(where, f"{place}.{key}", "true or false", flag)
    return flag


def _positive(options: Table, key: str, where: str, place: str) -> float | None:
    number = options.get(key)
    if number is None:
        return None
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number < math.inf:
        raise _wrong(where, f"{place}.{key}", "a number above 0", number)
    return float(number)


def _size(options: Table, key: str, where: str, place: str) -> int:
    given = options.get(key, 0)
    size = bytes_in(given) if isinstance(given, str) else given
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _wrong(where, f"{place}.{key}", "a size such as '8 GiB'", given)
    return size


def _ledger(
    table: Table, where: str, environ: Mapping[str, str], folder: Path, *, usual: bool
) -> PostgresqlPlace | None:
    if environ.get("PIPES_LEDGER"):
        return parse_place(environ["PIPES_LEDGER"], environ, "PIPES_LEDGER")
    try:
        written = _text(table, "ledger", where)
    except ConfigurationError:  # not what _text says: that would show what stands there
        raise ConfigurationError(f"{where}: ledger must be a text that is not empty") from None
    if not written:
        return None
    place = parse_place(written, environ, f"{where}: ledger")
    return place if usual or remembered_place(folder) == str(place) else None


def _tokens(table: Table, where: str) -> dict[str, float]:
    amounts = _table(table, "tokens", where)
    for name in amounts:
        if not _TOKEN_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{where}: tokens.{name}: the name of a token begins with a letter and has only letters, digits, "
                "'_', '-' and '.' in it"
            )
    return {name: _positive(amounts, name, where, "tokens") or 0.0 for name in amounts}


def _environ(table: Table, where: str) -> dict[str, str]:
    environ = _table(table, "environ", where)
    for name, text in environ.items():
        if not isinstance(text, str):
            raise _wrong(where, f"environ.{name}", "a text in quotes", text)
    return dict(environ)


def _text(table: Table, key: str, where: str, place: str = "") -> str:
    text = table.get(key, "")
    if not isinstance(text, str) or (key in table and not text):
        raise _wrong(where, f"{place}.{key}" if place else key, "a text that is not empty", text)
    return text


def _table(table: Table, key: str, where: str) -> Table:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise _wrong(where, key, "a table", found)
    return found


def _check_keys(table: Table, known: tuple[str, ...], where: str, place: str) -> None:
    for key in table:
        if key not in known:
            full = f"{place}.{key}" if place else key
            raise ConfigurationError(f"{where}: unknown key {full!r}{suggest(key, known)} (known: {_listed(known)})")


def _wrong(where: str, key: str, wanted: str, found: Any) -> ConfigurationError:
    return ConfigurationError(f"{where}: {key} must be {wanted}, not {found!r}")


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
