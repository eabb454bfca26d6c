"""A failed step as its author needs it: their own line first, then how to see the rest. Pure."""

from __future__ import annotations

import os
import re
import sysconfig
from typing import TYPE_CHECKING, NamedTuple

from mlflow_pipes.display.words import short_id

if TYPE_CHECKING:
    from mlflow_pipes.display.look import Line
    from mlflow_pipes.display.progress import StepProgress
    from mlflow_pipes.model.attempt import Failure

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_FOREIGN = ("/site-packages/", "/dist-packages/", "/mlflow_pipes/")


class Frame(NamedTuple):
    """A place in source code, out of a traceback's text."""

    file: str
    line: int
    function: str
    code: str


def frames_of(traceback: str) -> list[Frame]:
    """Return the frames of a traceback's text in its order (of a chain of exceptions, all of them)."""
    lines = traceback.splitlines()
    found = []
    for index, text in enumerate(lines):
        if match := _FRAME.match(text):
            following = lines[index + 1].strip() if index + 1 < len(lines) else ""
            code = "" if _FRAME.match(following) or set(following) <= {"^", "~"} else following
            found.append(Frame(match["file"], int(match["line"]), match["function"] or "", code))
    return found


def is_users(file: str) -> bool:
    """Return whether a source file looks like the user's: neither an installed package nor Python's own."""
    if any(part in file for part in _FOREIGN) or file.startswith("<frozen"):
        return False
    return not file.startswith(_STANDARD_LIBRARY)


def culprit(traceback: str) -> Frame | None:
    """Return the deepest frame in the user's own code, or the deepest of all when none is theirs.

    Of exceptions raised while another was treated, the last one counts: it is the one that ended the step.
    """
    last = re.split(r"\n(?:During handling of|The above exception was)[^\n]*\n", traceback)[-1]
    frames = frames_of(last) or frames_of(traceback)
    for frame in reversed(frames):
        if is_users(frame.file):
            return frame
    return frames[-1] if frames else None


def relative(file: str, folder: str | None = None) -> str:
    """Return *file* relative to the working folder where it lies below it, else as it is."""
    start = folder or os.getcwd()  # noqa: PTH109 - text in, text out
    return os.path.relpath(file, start) if file.startswith(start.rstrip("/") + "/") else file


def failure_lines(failure: Failure | None, reason: str = "") -> list[Line]:
    """Return what went wrong: the user's place, the line of code there, the exception."""
    if failure is None:
        return [[("    ", ""), (reason.strip().partition("\n")[0], "red")]] if reason.strip() else []
    lines: list[Line] = []
    frame = culprit(failure.traceback) if failure.traceback else None
    if frame is not None:
        where = f"{relative(frame.file)}:{frame.line}"
        lines.append([("    ", ""), (where, "bold"), (f" in {frame.function}" if frame.function else "", "dim")])
        if frame.code:
            lines.append([("        ", ""), (frame.code, "")])
    message = [part for part in failure.message.strip().splitlines() if part.strip()] or [failure.kind.value]
    lines.extend([("    ", ""), (part.rstrip(), "red")] for part in message[:5])
    return lines


def step_failure_lines(step: StepProgress, run_id: str, symbol: str) -> list[Line]:
    """Return a failed step's block: its name, :func:`failure_lines`, where its whole log is."""
    tries = f" (attempt {step.attempt})" if step.attempt > 1 else ""
    lines: list[Line] = [[(f"{symbol} {step.node}", "bold red"), (f" failed{tries}", "red")]]
    lines += failure_lines(step.failure, step.reason)
    lines.append([("    whole traceback and log: ", "dim"), (f"pipes logs {short_id(run_id)} {quoted(step.node)}", "")])
    return lines


def quoted(node: str) -> str:
    """Return a node's id as a shell takes it."""
    return node if re.fullmatch(r"[\w./-]+", node) else "'" + node.replace("'", "'\\''") + "'"
