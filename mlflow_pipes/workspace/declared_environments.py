"""The tables ``[environments.NAME]`` of a configuration file."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mlflow_pipes.errors import ConfigurationError, DeclarationError
from mlflow_pipes.model.environment import DEFAULT, Environment
from mlflow_pipes.workspace.checked_tables import Table, text, texts, wrong


def read_environments(tables: Table) -> dict[str, Environment]:
    """Return the declared environments by name.

    Raises:
        ConfigurationError: a key or its value is wrong, or it is not said what an environment is made of.
    """
    return {name: _read(name, tables.table(name)) for name in tables.values}


def _read(name: str, table: Table) -> Environment:
    if name == DEFAULT:
        raise ConfigurationError(
            f"{table.where}: {table.place}: {DEFAULT!r} names the interpreter that declares pipelines; use another name"
        )
    table.check_keys([field.name for field in fields(Environment) if field.name != "name"])
    checks = {"environ": texts, "requirements": _requirements}
    given = {key: table.read(key, checks.get(key, text)) for key in table.values}
    try:
        return Environment(**given, name=name)
    except DeclarationError as error:
        raise ConfigurationError(f"{table.where}: {error}") from None


def _requirements(value: Any, what: str) -> Any:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise wrong(what, "a list such as ['numpy==2.0.1'], or the path of a requirements file", value)
    return value
