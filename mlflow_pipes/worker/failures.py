"""Exceptions as data: the user's own frames first, ours left out."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.errors import WorldError
from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.wording import clipped
from mlflow_pipes.worker.secrets import Mask, mask_of_process

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = str(Path(__file__).parent.parent) + "/"
_IMPORTING = ("<frozen importlib", "<frozen runpy", importlib.__file__)
# A traceback is read by people; a recursion through a million-character message is not.
_LONGEST_TEXT = 64 * 1024
_LONGEST_MESSAGE = 2_000


def of_exception(error: BaseException, kind: FailureKind | None = None, mask: Mask | None = None) -> Failure:
    """Return the failure that *error* means, with secrets masked.

    Args:
        error: what was raised, with its traceback.
        kind: whose fault; by default the world's for a ``WorldError``, else the step's code.
        mask: hides secrets; by default those in this process's environment.
    """
    if kind is None:
        kind = FailureKind.WORLD if isinstance(error, WorldError) else FailureKind.EXCEPTION
    mask = mask or mask_of_process()
    return Failure(
        kind=kind,
        message=mask(_message(error)),
        exception=tuple(_class_names(type(error))),
        traceback=mask(traceback_text(error)),
    )


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an error, its causes, groups and notes, each beginning at the user's first frame."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    _drop_our_frames(told)
    text = "".join(told.format())
    if len(text) > _LONGEST_TEXT:
        half = _LONGEST_TEXT // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return text


def _drop_our_frames(told: traceback.TracebackException) -> None:
    pending = [told]
    while pending:
        one = pending.pop()
        while one.stack and _is_ours(one.stack[0].filename):
            one.stack.pop(0)
        pending += [linked for linked in (one.__cause__, one.__context__, *(one.exceptions or ())) if linked]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, *_IMPORTING))


def _message(error: BaseException) -> str:
    """Return one line that names the error."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else repr(error.code)}); return from the step instead"
    if next(_class_names(type(error))) == "bdb.BdbQuit":
        return "the debugger was left, or had no terminal: debug with target inline (pipes run --target inline)"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = "<its message cannot be read: __str__ raised>"
    name = next(_class_names(type(error)))
    line = " ".join(text.split())
    line = f"{name}: {line}" if line else name
    return clipped(line, _LONGEST_MESSAGE)


def _class_names(cls: type[BaseException]) -> Iterator[str]:
    for one in cls.__mro__:
        if one is not object:
            yield one.__qualname__ if one.__module__ == "builtins" else f"{one.__module__}.{one.__qualname__}"
