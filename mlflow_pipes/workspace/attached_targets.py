"""Compute targets that were attached at run time: kept in the workspace's folder, in ``targets.json``.

They hold for whoever uses the workspace on this machine. What the project's configuration says of a name comes first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow_pipes.errors import ConfigurationError, NotFoundError, suggest
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.workspace.checked_tables import Table, table
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, read_target

FILE = "targets.json"
_WAIT_S = 10.0


def attached_targets(folder: Path) -> dict[str, TargetConfiguration]:
    """Return the targets attached to the workspace in *folder*, by name.

    One that has become wrong, for its package is not installed any more, is an error only when it is used.

    Raises:
        ConfigurationError: the file is wrong.
    """
    tables = Table(_written(folder), str(folder / FILE))
    found = {}
    for name in tables.values:
        try:
            found[name] = read_target(name, tables.table(name))
        except ConfigurationError as error:
            keys = dict(tables.table(name).values)
            type_ = str(keys.pop("type", name))
            found[name] = TargetConfiguration(name, type_, keys, source=tables.where, problem=str(error))
    return found


def read_attached(name: str, keys: Mapping[str, Any]) -> TargetConfiguration:
    """Return the target that these keys mean.

    Raises:
        ConfigurationError: one is wrong.
    """
    return read_target(name, Table(dict(keys), f"target {name!r}"))


def attach(folder: Path, name: str, keys: Mapping[str, Any]) -> TargetConfiguration:
    """Keep a target; one of that name is replaced.

    Args:
        folder: of the workspace.
        name: of the target.
        keys: as they would stand in ``[targets.NAME]`` of ``pipes.toml``.

    Raises:
        ConfigurationError: a key is wrong.
    """
    target = read_attached(name, keys)
    with _changing(folder) as targets:
        targets[name] = dict(keys)
    return target


def detach(folder: Path, name: str) -> None:
    """Forget a target that was attached.

    Raises:
        NotFoundError: none of that name was.
    """
    with _changing(folder) as targets:
        if name not in targets:
            there = f"attached are: {', '.join(sorted(targets))}" if targets else "none is"
            raise NotFoundError(f"target {name!r} was not attached{suggest(name, targets)} ({there})")
        del targets[name]


@contextmanager
def _changing(folder: Path) -> Iterator[dict[str, Any]]:
    with exclusive(folder / f"{FILE}.lock", what="changing the attached targets", timeout_s=_WAIT_S):
        targets = dict(_written(folder))
        yield targets
        write_whole(folder / FILE, json.dumps(targets, indent=2) + "\n")


def _written(folder: Path) -> Mapping[str, Any]:
    file = folder / FILE
    try:
        return table(json.loads(file.read_text(encoding="utf-8")), str(file))
    except (FileNotFoundError, NotADirectoryError):  # the workspace is made later, or cannot be
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
