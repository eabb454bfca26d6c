"""Values as short texts for people, and sizes as people write them."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def clipped(text: str, characters: int) -> str:
    """Return *text*, its end replaced by an ellipsis where it is longer than *characters*.

    >>> clipped("gradient boosting", 9)
    'gradient…'
    """
    return text if len(text) <= characters else text[: characters - 1] + "…"


def short_text(value: Any, characters: int = 250) -> str:
    """Return a value as a short text for history: texts and paths as they are, else ``repr``; never part of a key.

    >>> short_text("a b"), short_text(PurePath("data/masses.txt")), short_text((4, 8))
    ('a b', 'data/masses.txt', '(4, 8)')
    """
    return clipped(str(value) if isinstance(value, str | PurePath) else repr(value), characters)


_CLEAN = str.maketrans(dict.fromkeys("/#[],=~", "_"))


def label_text(text: str, longest: int) -> str | None:
    """Return a text as it may stand in a node's id; None when it is empty, long or not printable.

    >>> label_text("a/b", 40), label_text("", 40)
    ('a_b', None)
    """
    return text.translate(_CLEAN) if 0 < len(text) <= longest and text.isprintable() else None


def bytes_in(size: str) -> int | None:
    """Return the bytes that a size such as ``8 GiB``, ``500MB``, ``1.5g`` or ``1024`` names; None for other texts.

    >>> bytes_in("2GB"), bytes_in("512 MiB"), bytes_in("1.5g"), bytes_in("1024"), bytes_in("much")
    (2000000000, 536870912, 1500000000, 1024, None)
    """
    read = _SIZE.fullmatch(size)
    return None if read is None else int(float(read[1]) * _UNITS[(read[2] or "").lower()])
