"""``--target local:1,2,4 --target gpu=cpus:8,memory:64GiB`` as sizes of targets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.workspace.sizes import Size


def sizes_given(texts: Sequence[str]) -> list[tuple[str, dict[str, Size]]]:
    """Return each set of sizes to forecast, with the words for it; one where no text has several sizes.

    >>> sizes_given(["local:1,2", "gpu=cpus:8"])[1]
    ('local:2', {'local': 2, 'gpu': {'cpus': 8.0}})

    Raises:
        click.BadParameter: a text is neither NAME:WORKERS nor NAME=KEY:SIZE, or two have several sizes.
    """
    fixed: dict[str, Size] = {}
    varied: tuple[str, list[int]] | None = None
    for text in texts:
        name, sizes = _parsed(text)
        if name in fixed or (varied and varied[0] == name):
            raise _wrong(text, f"target {name!r} is given twice")
        if len(sizes) == 1:
            fixed[name] = sizes[0]
        elif varied:
            raise _wrong(text, f"only one target can have several sizes, and {varied[0]!r} has")
        else:
            varied = (name, sizes)
    if varied is None:
        return [(" ".join(texts), fixed)]
    name, workers = varied
    return [(f"{name}:{number}", {name: number, **fixed}) for number in workers]


def _parsed(text: str) -> tuple[str, list[Any]]:
    name, mark, rest = _split(text)
    if not name or not mark or not rest:
        raise _wrong(text, "say how large it is: NAME:WORKERS or NAME=cpus:8,memory:64GiB")
    if mark == ":":
        return name, [_workers(text, piece) for piece in rest.split(",")]
    size: dict[str, Any] = {}
    for piece in rest.split(","):
        key, colon, told = piece.partition(":")
        if not colon:
            raise _wrong(text, f"{piece!r} is not KEY:SIZE, such as cpus:8")
        size[key.strip()] = told.strip() if key.strip() == "memory" else _number(text, told)
    return name, [size]


def _split(text: str) -> tuple[str, str, str]:
    """Return the name, the first of ``:`` and ``=``, and the rest."""
    first = min((at for at in (text.find(":"), text.find("=")) if at >= 0), default=-1)
    return (text, "", "") if first < 0 else (text[:first].strip(), text[first], text[first + 1 :].strip())


def _workers(text: str, piece: str) -> int:
    if not piece.strip().isdecimal() or not int(piece):
        raise _wrong(text, f"{piece.strip()!r} is not a number of workers")
    return int(piece)


def _number(text: str, piece: str) -> float:
    try:
        return float(piece)
    except ValueError:
        raise _wrong(text, f"{piece.strip()!r} is not a number") from None


def _wrong(text: str, why: str) -> click.BadParameter:
    return click.BadParameter(f"{text!r}: {why}", param_hint="--target")
