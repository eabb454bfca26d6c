"""Keys and values as MLflow takes them (limits of ``mlflow.utils.validation``, MLflow 3.17). No MLflow here.

A key keeps letters, digits, ``_ . - /`` and blanks. Of a node's name ``train[max_depth=8]/rmse`` the opening bracket
and commas become ``.``, ``=`` becomes ``_``, the closing bracket goes: ``train.max_depth_8/rmse``. Anything else
becomes ``_``. Two keys of a run that would meet are told apart by a piece of their digest.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.wording import clipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEY_CHARACTERS = 250
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 5000  # 8000 in MLflow 3.17; servers of early 3.x take 5000
NAME_CHARACTERS = 250
EXPERIMENT_CHARACTERS = 256

_REPLACED = str.maketrans({"[": ".", ",": ".", "=": "_", "]": None, "(": ".", ")": None, "'": None, '"': None})
_NOT_ALLOWED = re.compile(r"[^\w.\-/ ]")


@lru_cache(maxsize=4096)  # the steps of a run have the same twenty keys of tags
def clean_key(key: str) -> str:
    """Return *key* with characters that MLflow does not take replaced, as a path that is its own normal form.

    >>> clean_key("train[max_depth=8, fold=2]/rmse")
    'train.max_depth_8.fold_2/rmse'
    """
    replaced = _NOT_ALLOWED.sub("_", key.translate(_REPLACED).replace(". ", "."))
    # MLflow refuses names that mean another path when taken for a file's: no empty part, no "." and no "..".
    parts = [part if part.strip(".") else part.replace(".", "_") for part in replaced.split("/") if part]
    cleaned = "/".join(parts) or "_"
    return cleaned if len(cleaned) <= KEY_CHARACTERS else _shortened(cleaned, key)


def _shortened(cleaned: str, key: str) -> str:
    mark = digest_bytes(key.encode("utf-8", "surrogatepass")).hash[:8]
    return f"{cleaned[: KEY_CHARACTERS - 9].rstrip('/')}-{mark}"


def distinct_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return each key's name in MLflow; of keys that would meet, all but the first carry a piece of their digest."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        if key not in names:
            cleaned = clean_key(key)
            names[key] = _shortened(cleaned, key) if cleaned in taken else cleaned
            taken.add(names[key])
    return names


def clean_values(values: Mapping[str, str], characters: int) -> dict[str, str]:
    """Return parameters or tags with keys and values that MLflow takes."""
    names = distinct_keys(values)
    return {names[key]: clipped(str(value), characters) for key, value in values.items()}
