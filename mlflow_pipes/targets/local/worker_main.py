"""A worker process: takes one attempt after the other from its connection."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import io
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from mlflow_pipes.model.attempt import AttemptSucceeded, FailureKind, LogLine, Progress
from mlflow_pipes.model.tracked import NOTHING_TRACKED
from mlflow_pipes.targets.local import wire
from mlflow_pipes.targets.local.process_state import ProcessState
from mlflow_pipes.worker import capture
from mlflow_pipes.worker.execute import execute, warm
from mlflow_pipes.worker.logs import info_written, lines_to

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import AttemptFailed, TargetEvent
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LONG_ATTEMPT_S = 0.1  # shorter ones leave little behind, and giving it back would cost more than they do
# Loaded before the fork: the dynamic loader may not be used between fork and prctl in a process with threads.
_libc = ctypes.CDLL(None)


class Host(NamedTuple):
    """What a worker has from its target."""

    datastore: Datastore
    checkout: str
    scratch: str
    workspace: str
    cwd: str


def main(host: Host, zygote_pid: int, connection_fd: int, stdout_fd: int, stderr_fd: int) -> None:
    """Work until the connection ends. Never returns."""
    os.setsid()
    _die_with(zygote_pid)
    _redirect(stdout_fd, stderr_fd)
    faulthandler.enable()
    capture.prepare()
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # preloaded: all workers would draw the same numbers
        numpy.random.seed()
    worker = _Worker(host, socket.socket(fileno=connection_fd))
    with info_written(), lines_to(worker.log_line):
        worker.serve()
    _exit_cleanly()


class _Worker:
    def __init__(self, host: Host, connection: socket.socket) -> None:
        self._host = host
        self._checkout = Path(host.checkout)
        self._scratch = Path(host.scratch)
        self._connection = connection
        self._sending = threading.Lock()  # threads of the step may log
        self._functions: dict[int, FunctionReference] = {}
        self._pid = os.getpid()
        self._attempts = 0
        self._early: list[wire.Line] | None = None  # while there is no attempt that they could be told of
        self._state = ProcessState()

    def serve(self) -> None:
        frames = wire.Frames()
        self._send(wire.Ready(self._pid))
        while (messages := wire.receive(self._connection, frames)) is not None:
            for message in messages:
                if isinstance(message, wire.Warm):
                    self._warm(message)
                else:
                    self._send(self._done(message))

    def _warm(self, message: wire.Warm) -> None:
        """Import ahead; lines of ``logging`` wait for the attempt that they belong to."""
        self._functions.update(message.functions)
        self._early = []
        warm(message.functions.values(), message.environ)
        if os.getpid() != self._pid:
            os._exit(0)  # a module forked, and the child came back here

    def _done(self, work: wire.Work) -> wire.Ended:
        if self._early is not None:
            with self._sending:
                early, self._early = self._early, None
            for line in early:
                self._send(line)
        if work.function is not None:
            self._functions[work.number] = work.function
        ended = execute(
            work.assignment(self._functions[work.number]),
            self._host.datastore,
            checkout=self._checkout,
            scratch=self._scratch,
            workspace=self._host.workspace,
            emit=self.emit,
        )
        if os.getpid() != self._pid:
            os._exit(0)  # the step forked, and the child came back here: only the parent answers
        self._attempts += 1
        if ended.ended_at - ended.started_at > _LONG_ATTEMPT_S:
            _give_memory_back()
        return self._as_message(ended, worn=not self._tidy())

    def _as_message(self, ended: AttemptSucceeded | AttemptFailed, *, worn: bool) -> wire.Ended:
        succeeded = isinstance(ended, AttemptSucceeded)
        failure = None if succeeded else ended.failure  # type: ignore[union-attr]
        changed = failure is not None and failure.kind is FailureKind.SOURCE_CHANGED
        return wire.Ended(
            ended.output if succeeded else None,  # type: ignore[union-attr]
            failure,
            ended.started_at,
            ended.ended_at,
            ended.usage.cpu_s,
            ended.usage.peak_memory_bytes,
            None if ended.tracked is NOTHING_TRACKED else ended.tracked,
            ended.warnings,
            stale=changed and self._attempts > 1,
            worn=worn,
        )

    def _tidy(self) -> bool:
        """Leave the process to the next attempt as this one found it, and all output on its way; False if it cannot."""
        if not self._state.has_streams():
            return False
        _flush_streams()
        replaced = sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__
        if replaced or any(stream.closed for stream in _streams()):
            _open_streams()  # again, because the step replaced or closed them
        _libc.fflush(None)  # what C code printed
        try:
            moved = os.getcwd() != self._host.cwd  # noqa: PTH109 - compared as text
        except OSError:
            moved = True
        if moved:
            with suppress(OSError):
                os.chdir(self._host.cwd)
        return self._state.mend()

    def emit(self, event: TargetEvent) -> None:
        """Tell the orchestrator of progress; from any thread, but not from a forked process."""
        if os.getpid() != self._pid:
            return
        if isinstance(event, Progress):
            self._send(wire.Moved(event.done, event.total, event.text))
        elif isinstance(event, LogLine):
            self._send(wire.Line(event.text, event.at))

    def log_line(self, text: str) -> None:
        """Tell the orchestrator a line of ``logging``."""
        line = wire.Line(text, time.time())
        with self._sending:
            if self._early is not None:
                self._early.append(line)
                return
        self._send(line)

    def _send(self, message: Any) -> None:
        frame = wire.encode(message)
        with self._sending:
            self._connection.sendall(frame)


def _give_memory_back() -> None:
    """Return what the last step freed to the system: allocators keep it, and the next step may be another worker's."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with suppress(AttributeError):  # glibc only
        _libc.malloc_trim(0)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends."""
    with suppress(AttributeError):  # Linux only; elsewhere the zygote and the end of the connection must do
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _redirect(stdout_fd: int, stderr_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (stdout_fd, 1), (stderr_fd, 2)):
        os.dup2(source, target)
        os.close(source)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    _open_streams()


def _open_streams() -> None:
    """Open ``sys.stdout`` and ``sys.stderr`` (again), each of its descriptor.

    Line by line, so that lines are seen when they are written and survive a crash of the process.
    """
    sys.stdout = sys.__stdout__ = _text_stream(1, "backslashreplace")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(2, "backslashreplace")  # type: ignore[misc]


def _text_stream(fileno: int, errors: str) -> io.TextIOWrapper:
    writer = io.BufferedWriter(io.FileIO(fileno, "w", closefd=False))
    return io.TextIOWrapper(writer, encoding="utf-8", errors=errors, line_buffering=True)


def _streams() -> list[TextIO]:
    return [sys.stdout, sys.stderr]


def _flush_streams() -> None:
    for stream in _streams():
        with suppress(Exception):
            stream.flush()


def _exit_cleanly() -> None:
    """End as a Python process does, but without taking the interpreter apart, which takes long with large packages."""
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing's children do
    _flush_streams()
    os._exit(0)
