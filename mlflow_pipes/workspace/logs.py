"""A run's log: one JSON object a line in ``logs/<run_id>.jsonl``, appended to by the engine, followed by readers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow_pipes.errors import WorldError
from mlflow_pipes.model.attempt import AttemptId, LogLine
from mlflow_pipes.quick_dataclasses import dataclass

_POLL_S = 0.1


class RunLogWriter:
    """Appends the lines of one run; buffered until :meth:`flush`, which the engine calls once a turn of its loop.

    A flush is one ``write`` to a file opened for appending: lines of several writers never mix, and a killed process
    leaves at most one line cut short, which readers skip.
    """

    def __init__(self, workspace: Path, run_id: str) -> None:
        self.path = log_file(workspace, run_id)
        self._lines: list[str] = []
        self._descriptor: int | None = None

    def append(self, line: LogLine) -> None:
        """Take a line; nothing is written yet."""
        attempt = line.attempt
        self._lines.append(
            json.dumps([line.at, attempt.node, attempt.number, line.stream, line.text], separators=(",", ":"))
        )

    def flush(self) -> None:
        """Write what was taken since the last flush. The file is made with the first line.

        Raises:
            WorldError: it cannot be written, such as on a full disk.
        """
        if not self._lines:
            return
        piece = ("\n".join(self._lines) + "\n").encode()
        self._lines.clear()
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._descriptor = os.open(self.path, flags, 0o644)
            while piece:
                piece = piece[os.write(self._descriptor, piece) :]
        except OSError as error:
            raise WorldError(
                f"cannot write the log {self.path}: {error.strerror or error}. Free space there, remove what is no "
                f"longer needed with `pipes gc`, or use another workspace; finished steps are kept."
            ) from error

    def close(self) -> None:
        """Flush and close; idempotent."""
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines a reader wants: of one node (or a step by name, whatever its arguments), of some streams."""

    node: str | None = None
    streams: frozenset[str] = frozenset()

    def takes(self, line: LogLine) -> bool:
        """Whether the line is wanted."""
        return self.takes_node(line.attempt.node) and (not self.streams or line.stream in self.streams)

    def takes_node(self, node: str) -> bool:
        """Whether lines of that node are wanted."""
        return self.node is None or node == self.node or node.partition("[")[0] == self.node


def log_file(workspace: Path, run_id: str) -> Path:
    """Return where a run's log is."""
    return workspace / "logs" / f"{run_id}.jsonl"


@dataclass(frozen=True, slots=True)
class Followed:
    """What is to be followed now.

    Attributes:
        over: the run has ended: what is there is read, and that is all.
        others: besides the run's own log, steps of other runs (run id, node) whose lines are wanted.
    """

    over: bool
    others: Sequence[tuple[str, str]] = ()


def read_log(workspace: Path, run_id: str, wanted: LogFilter | None = None) -> Iterator[LogLine]:
    """Yield the lines written so far, in the order written; none when the run wrote nothing."""
    return follow_log(workspace, run_id, lambda: Followed(over=True), wanted)


def follow_log(
    workspace: Path, run_id: str, followed: Callable[[], Followed], wanted: LogFilter | None = None
) -> Iterator[LogLine]:
    """Yield lines as they are written, until *followed* says that the run is over and all was read.

    *followed* is asked about ten times a second while there is nothing to read.
    """
    own = _Tail(workspace, run_id)
    tails: dict[tuple[str, str], _Tail] = {}
    while True:
        now = followed()  # asked before reading: what was written before the end is still read
        lines = list(filter((wanted or LogFilter()).takes, own.read()))
        read = own.moved
        for other in now.others:
            tail = tails.setdefault(other, _Tail(workspace, other[0]))
            lines += filter(LogFilter(node=other[1]).takes, tail.read())
            read = read or tail.moved
        yield from lines
        if not read:
            if now.over:
                return
            time.sleep(_POLL_S)


class _Tail:
    """What was not read yet of one run's log."""

    def __init__(self, workspace: Path, run_id: str) -> None:
        self._path = log_file(workspace, run_id)
        self._run_id = run_id
        self._offset = 0
        self._rest = b""
        self.moved = False

    def read(self) -> Iterator[LogLine]:
        piece = _read_from(self._path, self._offset)
        self.moved = bool(piece)
        self._offset += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return _parsed(self._run_id, lines)


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(1 << 20)
    except FileNotFoundError:
        return b""


def _parsed(run_id: str, lines: Iterable[bytes]) -> Iterator[LogLine]:
    for line in lines:
        try:
            at, node, number, stream, text = json.loads(line)
        except ValueError:
            continue  # cut short by a crash, or empty
        yield LogLine(AttemptId(run_id, node, number), stream, text, at)
