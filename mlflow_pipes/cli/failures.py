"""An error, told to the person at the terminal: what is wrong, where in their code, what to do. And its exit code."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, TextIO

import click

from mlflow_pipes.display.failure import is_users, relative
from mlflow_pipes.display.look import Look
from mlflow_pipes.errors import DeclarationError, PipesError, RunFailed, WorldError
from mlflow_pipes.workspace.user_files import FileFailedError

if TYPE_CHECKING:
    from traceback import FrameSummary

OUR_BUG = 70


def tell(error: Exception, stream: TextIO, *, debug: bool = False) -> int:
    """Write what a person needs to know about *error* and return the exit code."""
    look = Look.of(stream, os.environ)
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        if context is not None:
            stream.write(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n")
        stream.write(look.paint("error: ", "bold red") + look.readable_lines(error.format_message()))
        return error.exit_code
    if debug:
        stream.write("".join(traceback.format_exception(error)))
    if not isinstance(error, PipesError):
        _tell_bug(error, stream, look, debug=debug)
        return OUR_BUG
    lines = str(error).strip().splitlines() or [type(error).__name__]
    stream.write(look.paint("error: ", "bold red") + "\n".join(look.readable(line) for line in lines) + "\n")
    if isinstance(error, FileFailedError) and error.__cause__ is not None:
        stream.write(look.readable_lines(users_traceback(error.__cause__)))
    elif isinstance(error, DeclarationError) and (frame := users_frame(error)) is not None:
        stream.write(f"  at {relative(frame.filename)}:{frame.lineno} in {frame.name}\n")
        if frame.line:
            stream.write(f"      {look.readable(frame.line.strip())}\n")
    if not debug and isinstance(error, WorldError):
        stream.write(look.paint("this may be well on another try; PIPES_DEBUG=1 shows more\n", "dim"))
    return type(error).exit_code if not isinstance(error, RunFailed) else 1


def _tell_bug(error: Exception, stream: TextIO, look: Look, *, debug: bool) -> None:
    stream.write(look.paint("internal error: ", "bold red") + f"{type(error).__name__}: {look.readable(str(error))}\n")
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        stream.write(f"  at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}\n")
    hint = "" if debug else "; PIPES_DEBUG=1 shows the traceback"
    stream.write(f"this is a bug of mlflow_pipes: please report it{hint}\n")


def users_frame(error: BaseException) -> FrameSummary | None:
    """Return the deepest frame of the error's traceback in the user's own code, None when there is none."""
    found = None
    for frame in traceback.extract_tb(error.__traceback__):
        if is_users(frame.filename) and not frame.filename.startswith("<"):
            found = frame
    return found


def users_traceback(error: BaseException) -> str:
    """Return the traceback of what the user's file raised, beginning at the user's first frame."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    pending = [told]
    while pending:
        one = pending.pop()
        while one.stack and not (is_users(one.stack[0].filename) and not one.stack[0].filename.startswith("<")):
            one.stack.pop(0)
        pending += [linked for linked in (one.__cause__, one.__context__) if linked is not None]
    return "".join(told.format())
