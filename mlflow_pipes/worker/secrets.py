"""Secrets by name from the environment, and texts without their values."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from mlflow_pipes.errors import NotFoundError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "PIPES_SECRET_"
MASK = "***"
# A shorter value is no secret, and masking it would blot out innocent text.
SHORTEST = 4


def variable(name: str) -> str:
    """Return the environment variable that holds the secret *name*.

    >>> variable("db-password")
    'PIPES_SECRET_DB_PASSWORD'
    """
    return PREFIX + re.sub(r"\W", "_", name).upper()


def secret(name: str, environ: Mapping[str, str]) -> str:
    """Return the secret *name*.

    Raises:
        NotFoundError: its environment variable is not set.
    """
    value = environ.get(variable(name))
    if value is None:
        known = [key.removeprefix(PREFIX).lower() for key in environ if key.startswith(PREFIX)]
        raise NotFoundError(
            f"no secret {name!r}{suggest(name.lower(), known) or '.'} "
            f"Set the environment variable {variable(name)} where the run is started."
        )
    return value


def values(*environs: Mapping[str, str]) -> frozenset[str]:
    """Return all that must not be seen: each secret, and each line of one with several lines."""
    found: set[str] = set()
    for environ in environs:
        for key in environ:  # its values cost more than its names: os.environ decodes each
            if key.startswith(PREFIX):
                value = environ[key]
                found.update(piece for piece in (value, *value.splitlines()) if len(piece.strip()) >= SHORTEST)
    return frozenset(found)


class Mask:
    """Texts with the values of secrets replaced by ``***``. Values shorter than four characters are let through."""

    __slots__ = ("_pattern",)

    def __init__(self, hidden: Iterable[str]) -> None:
        # Longest first, so that a secret that begins another leaves no tail of it.
        pieces = sorted(hidden, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, pieces))) if pieces else None

    def __call__(self, text: str) -> str:
        """Return the text without the secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def mask_of_process() -> Mask:
    """Return the mask for the secrets in this process's environment, now."""
    return Mask(values(os.environ))
