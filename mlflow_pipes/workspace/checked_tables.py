"""Tables of configuration files, read with checks: each mistake is told with its file, its key and what is possible."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mlflow_pipes.errors import ConfigurationError, suggest
from mlflow_pipes.wording import bytes_in

Check: TypeAlias = Callable[[Any, str], Any]
"""Is given what stands at a key, and the key's full name for errors; returns the value meant."""


class Table:
    """A table of a configuration file.

    Args:
        values: what stands in it.
        where: the file, for errors.
        place: dotted name of the table in the file; empty for the whole file.
    """

    __slots__ = ("place", "values", "where")

    def __init__(self, values: Mapping[str, Any], where: str, place: str = "") -> None:
        self.values = values
        self.where = where
        self.place = place

    def key(self, key: str) -> str:
        """Return the full name of a key, without the file."""
        return f"{self.place}.{key}" if self.place else key

    def what(self, key: str) -> str:
        """Return the full name of a key, for errors."""
        return f"{self.where}: {self.key(key)}"

    def read(self, key: str, check: Check) -> Any:
        """Return the checked value of a key, None when it is not there."""
        return check(self.values[key], self.what(key)) if key in self.values else None

    def table(self, key: str) -> Table:
        """Return the table below a key, empty when it is not there."""
        return Table(table(self.values.get(key, {}), self.what(key)), self.where, self.key(key))

    def check_keys(self, known: Collection[str]) -> None:
        """Raise ``ConfigurationError`` for a key that is none of *known*."""
        for key in self.values:
            if key not in known:
                raise ConfigurationError(
                    f"{self.where}: unknown key {self.key(key)!r}{suggest(key, known)} (known: {listed(known)})"
                )


def toml_file(file: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        ConfigurationError: it is not TOML, or cannot be read.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror or error}") from error


def yaml_file(file: Path) -> dict[str, Any]:
    """Return what a YAML file holds.

    Raises:
        ConfigurationError: it is not YAML, not a table of named keys, or cannot be read.
    """
    import yaml  # type: ignore[import-untyped] # PyYAML comes with mlflow-skinny

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not YAML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror or error}") from error
    if not isinstance(found, dict | None):
        raise wrong(str(file), "a table", found)
    _check_names(found or {}, f"{file}:")
    return found or {}


def _check_names(value: Any, what: str) -> None:
    """Check that all keys are texts: YAML reads ``on`` and ``1`` as something else."""
    for key, inner in value.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"{what} {key!r} is no text: put the key in quotes")
        if isinstance(inner, dict):
            _check_names(inner, f"{what} {key}:")


def text(value: Any, what: str) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise wrong(what, "a text that is not empty", value)
    return value


def texts(value: Any, what: str) -> dict[str, str]:
    """Return a table of texts."""
    for name, one in table(value, what).items():
        if not isinstance(one, str):
            raise wrong(f"{what}.{name}", "a text in quotes", one)
    return dict(value)


def flag(value: Any, what: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise wrong(what, "true or false", value)
    return value


def whole(least: int | None = None) -> Check:
    """Return the check of a whole number, of at least *least*."""

    def check(value: Any, what: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
            raise wrong(what, "a whole number" if least is None else f"a whole number of at least {least}", value)
        return value

    return check


def above_zero(value: Any, what: str) -> float:
    """Return a number above 0."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise wrong(what, "a number above 0", value)
    return float(value)


def size(value: Any, what: str) -> int:
    """Return the bytes of a size such as ``"8 GiB"``."""
    found = bytes_in(value) if isinstance(value, str) else value
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise wrong(what, "a size such as '8 GiB'", value)
    return found


def table(value: Any, what: str) -> Mapping[str, Any]:
    """Return a table."""
    if not isinstance(value, dict):
        raise wrong(what, "a table", value)
    return value


def wrong(what: str, wanted: str, found: Any) -> ConfigurationError:
    """Return the error that a key should be something else."""
    return ConfigurationError(f"{what} must be {wanted}, not {found!r}")


def listed(names: Iterable[str]) -> str:
    """Return names as a sorted list for errors."""
    return ", ".join(sorted(names))
