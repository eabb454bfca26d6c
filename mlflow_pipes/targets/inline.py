"""The target that runs attempts in the engine's own thread, for debuggers and tests."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from mlflow_pipes.errors import TargetError
from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptStarted,
    Capacity,
    Failure,
    FailureKind,
    LogLine,
)
from mlflow_pipes.targets.lines import Lines
from mlflow_pipes.targets.own_use import OwnUse
from mlflow_pipes.worker.execute import execute
from mlflow_pipes.worker.logs import info_written, lines_to
from mlflow_pipes.worker.secrets import Mask, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mlflow_pipes.model.attempt import Assignment, AttemptId, TargetEvent
    from mlflow_pipes.ports import Datastore

_turn = threading.RLock()


class InlineTarget:
    """Attempts one after the other, inside ``poll``, in the thread that calls it.

    A breakpoint in a step stops there. What a step writes with Python's ``sys.stdout`` and ``sys.stderr`` is shown as
    it is written and reported as log lines too. An attempt cannot be killed: ``timeout_s`` has no effect, and only
    attempts that have not begun are cancelled. Ctrl-C inside a step cancels its attempt and goes on to the caller.
    An attempt has the process's environment, folder, streams and MLflow's state for itself: where several threads run
    inline, their attempts take turns.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are.
        checkout: folder where input files are laid out for reading.
        scratch: folder in which attempts have their temporary folders.
        workspace: the workspace's folder, for ``current_run()``.
        capture_output: report what steps write, but do not show it.
    """

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        checkout: Path,
        scratch: Path,
        workspace: str = "",
        capture_output: bool = False,
    ) -> None:
        self.name = name
        self.shows_output = not capture_output
        self._datastore = datastore
        self._checkout = checkout
        self._scratch = scratch
        self._workspace = workspace
        self._waiting: deque[Assignment] = deque()
        self._report: Callable[[TargetEvent], None] | None = None
        self._worker = f"{name}/{os.getpid()}"
        self._host = socket.gethostname()
        self._use: OwnUse | None = None
        self._started = ExitStack()

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready to take attempts."""
        self._report = report
        self._started.enter_context(info_written())

    def capacity(self) -> Capacity:
        """Return that one attempt runs at a time, whatever it asks for."""
        return Capacity(cpus=float("inf"), memory_bytes=0, slots=1, gpus=float("inf"))

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt; the next ``poll`` runs it."""
        if self._report is None:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        self._waiting.append(assignment)

    def cancel(self, attempt: AttemptId) -> None:
        """Drop an attempt that has not begun."""
        for assignment in self._waiting:
            if assignment.attempt == attempt:
                self._waiting.remove(assignment)
                self._answer_cancelled(assignment, "cancelled before it began")
                return

    def filenos(self) -> Iterable[int]:
        """Return nothing: no other process is waited for."""
        return ()

    def next_deadline(self) -> float | None:
        """Return now while there is something to run."""
        return time.monotonic() if self._waiting else None

    def poll(self) -> None:
        """Run one attempt, if any waits."""
        if self._waiting and self._report is not None:
            with _turn:
                self._run(self._waiting.popleft(), self._report)

    def close(self) -> None:
        """Drop what has not begun."""
        while self._waiting:
            self._answer_cancelled(self._waiting.popleft(), "the target was closed before it began")
        self._report = None
        self._started.close()
        if self._use is not None:
            self._use.close()
            self._use = None

    def _run(self, assignment: Assignment, report: Callable[[TargetEvent], None]) -> None:
        attempt = assignment.attempt
        report(AttemptStarted(attempt, time.time(), worker=self._worker, host=self._host))
        mask = Mask(values(os.environ, assignment.environ))

        def line(stream: str, text: str) -> None:
            report(LogLine(attempt, stream, mask(text), time.time()))

        folder = os.getcwd()  # noqa: PTH109 - given back to chdir as it was
        self._use = self._use or OwnUse(report)
        self._use.begin(attempt)
        try:
            with (
                _teed("stdout", line, self.shows_output),
                _teed("stderr", line, self.shows_output),
                lines_to(lambda text: self._logging_line(line, text)),
            ):
                ended = execute(
                    assignment,
                    self._datastore,
                    checkout=self._checkout,
                    scratch=self._scratch,
                    workspace=self._workspace,
                    emit=report,
                )
        finally:
            self._use.end()
            os.chdir(folder)
        if isinstance(ended, AttemptFailed) and ended.failure.exception[:1] == ("KeyboardInterrupt",):
            report(
                replace(
                    ended,
                    failure=Failure(FailureKind.CANCELLED, "interrupted by Ctrl-C"),
                    worker=self._worker,
                    host=self._host,
                )
            )
            raise KeyboardInterrupt
        report(replace(ended, worker=self._worker, host=self._host))

    def _logging_line(self, line: Callable[[str, str], None], text: str) -> None:
        line("logging", text)
        if self.shows_output and sys.__stderr__ is not None:
            print(text, file=sys.__stderr__)

    def _answer_cancelled(self, assignment: Assignment, message: str) -> None:
        if self._report is not None:
            now = time.time()
            failure = Failure(FailureKind.CANCELLED, message)
            self._report(AttemptFailed(assignment.attempt, failure, now, now, worker=self._worker, host=self._host))


@contextmanager
def _teed(stream: str, line: Callable[[str, str], None], shown: bool) -> Iterator[None]:
    """Give what is written to ``sys.<stream>`` to *line*, too."""
    original: TextIO | None = getattr(sys, stream)
    lines = Lines()

    def write(text: str) -> None:
        for one in lines.feed(text.encode("utf-8", "backslashreplace")):
            line(stream, one)

    setattr(sys, stream, _Tee(original if shown else None, write))
    try:
        yield
    finally:
        setattr(sys, stream, original)
        for rest in lines.rest():
            line(stream, rest)


class _Tee(io.TextIOBase):
    """A text stream that writes to the original as well; descriptor, encoding and the rest are the original's."""

    def __init__(self, original: TextIO | None, write: Callable[[str], object]) -> None:
        self._original = original
        self._write = write

    def write(self, text: str) -> int:
        self._write(text)
        return len(text) if self._original is None else self._original.write(text)

    def flush(self) -> None:
        if self._original is not None:
            self._original.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._original is not None and self._original.isatty()

    def fileno(self) -> int:
        if self._original is None:
            raise io.UnsupportedOperation("this step's output is captured: there is no file descriptor")
        return self._original.fileno()

    @property
    def buffer(self) -> object:
        return _Bytes(self.write) if self._original is None else self._original.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8" if self._original is None else self._original.encoding


class _Bytes(io.RawIOBase):
    def __init__(self, write: Callable[[str], int]) -> None:
        self._write_text = write

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        written = bytes(content)  # type: ignore[call-overload]
        self._write_text(written.decode("utf-8", "replace"))
        return len(written)
