"""The orchestrator's end of one worker: its connection, its output, and what it is doing."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from mlflow_pipes.targets.lines import Lines
from mlflow_pipes.targets.local import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_pipes.model.attempt import Assignment, FailureKind
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.targets.local.crews import Key
    from mlflow_pipes.targets.local.sampling import Looks

_READ_BYTES = 1 << 16
_RECEIVE_BYTES = 1 << 18
# A pipe holds 64 KiB unless the step makes it larger, at most 1 MiB (fcntl(2), F_SETPIPE_SZ).
_MOST_IN_PIPE_BYTES = 1 << 20
_LAST_LINES = 20


class State(Enum):
    """What a worker is doing, as far as the orchestrator knows."""

    STARTING = auto()  # asked for; not ready
    IDLE = auto()
    BUSY = auto()
    LEAVING = auto()  # its connection was ended: it will exit by itself
    DYING = auto()  # killed; its end was not reported yet
    DEAD = auto()  # ended; what it started may still be alive
    GONE = auto()  # nothing of it is left


class Output:
    """One stream of a worker."""

    __slots__ = ("fileno", "lines", "name")

    def __init__(self, name: str, fileno: int) -> None:
        self.name = name
        self.fileno = fileno
        self.lines = Lines()


class WorkerLink:
    """One worker.

    Attributes:
        environment: of its crew.
        pid: None until the zygote said it.
        has_worked: whether it was given an attempt.
        is_fresh: whether it has none of the user's code: neither given an attempt nor warmed.
        is_heard: whether what it writes is read. A worker that is warmed is heard from its first attempt on, which its
            lines belong to; until then they stay in its pipes.
        deadline: when (``time.monotonic``) it is to be looked after, and then killed with *overdue*.
        verdict: why it was killed: kind and message of its attempt's failure.
        how_ended: in words, once it has.
        looks: at what it uses; None while it has no attempt.
        last_errors: the last lines that its attempt wrote to stderr.
    """

    def __init__(self, slot: int, environment: Key = None) -> None:
        self.slot = slot
        self.environment = environment
        self.pid: int | None = None
        self.has_worked = False
        self.is_fresh = True
        self.is_heard = False
        self.state = State.STARTING
        self.assignment: Assignment | None = None
        self.started_at = 0.0
        self.deadline: float | None = None
        self.overdue: tuple[FailureKind, str] | None = None
        self.verdict: tuple[FailureKind, str] | None = None
        self.how_ended = ""
        self.dead_since = 0.0
        self.looks: Looks | None = None
        self.last_errors: deque[str] = deque(maxlen=_LAST_LINES)
        self.outgoing = b""
        self._frames = wire.Frames()
        self._numbers: dict[int, tuple[int, FunctionReference]] = {}
        self.connection, theirs = socket.socketpair()
        self.connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._theirs = [theirs.detach()]
        self.outputs = []
        for name in ("stdout", "stderr"):
            ours, their_end = os.pipe()
            os.set_blocking(ours, False)
            self.outputs.append(Output(name, ours))
            self._theirs.append(their_end)

    @property
    def descriptors(self) -> list[int]:
        """The worker's ends: connection, stdout, stderr."""
        return self._theirs

    def close_theirs(self) -> None:
        """Close the worker's ends here, once they were sent: else this process never sees that the worker is gone."""
        while self._theirs:
            os.close(self._theirs.pop())

    def warm(self, functions: Iterable[FunctionReference], environ: Mapping[str, str]) -> None:
        """Have it import what *functions* are found in; what the socket does not take now stays in ``outgoing``."""
        self.is_fresh = False
        numbered = {self._number(function)[0]: function for function in functions}
        self.outgoing += wire.encode(wire.Warm(numbered, environ))
        self.flush()

    def send(self, assignment: Assignment) -> None:
        """Send an attempt; what the socket does not take now stays in ``outgoing``."""
        number, new = self._number(assignment.function)
        work = wire.Work(
            (assignment.attempt.run_id, assignment.attempt.node, assignment.attempt.number),
            assignment.pipeline,
            number,
            assignment.function if new else None,
            dict(assignment.arguments),
            assignment.environ,
            assignment.step_run_id,
            assignment.idempotency_key,
            assignment.random_seed,
            assignment.tracks_mlflow,
            assignment.tags,
            assignment.retry_when,
        )
        self.outgoing += wire.encode(work)
        self.flush()

    def flush(self) -> None:
        """Send more of ``outgoing``."""
        try:
            sent = self.connection.send(self.outgoing)
        except BlockingIOError:
            return
        except OSError:  # the worker is dead; the zygote will tell
            sent = len(self.outgoing)
        self.outgoing = self.outgoing[sent:]

    def receive(self) -> list[Any] | None:
        """Return messages, without waiting; None when the connection is at its end."""
        messages: list[Any] = []
        while True:
            try:
                piece = self.connection.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return messages
            except OSError:
                piece = b""
            if not piece:
                return messages or None
            messages += self._frames.feed(piece)
            if len(piece) < _RECEIVE_BYTES:  # all that is there: asking again costs a system call an attempt
                return messages

    def read(self, output: Output) -> list[str] | None:
        """Return the next lines of a stream, without waiting; None at its end."""
        try:
            piece = os.read(output.fileno, _READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return output.lines.feed(piece) if piece else None

    def read_all(self, output: Output) -> list[str]:
        """Return the lines that a stream holds now, with the one that is only begun.

        Bounded: a process that the step left behind may write faster than we read.
        """
        lines: list[str] = []
        left = _MOST_IN_PIPE_BYTES
        while left > 0:
            try:
                piece = os.read(output.fileno, _READ_BYTES)
            except OSError:  # mostly BlockingIOError: it is empty
                break
            if not piece:
                break
            left -= len(piece)
            lines += output.lines.feed(piece)
        return lines

    def expect(self, within_s: float, overdue: tuple[FailureKind, str]) -> None:
        """Have it killed as *overdue* after that time, unless it is to be killed sooner."""
        deadline = time.monotonic() + within_s
        if self.deadline is None or deadline < self.deadline:
            self.deadline, self.overdue = deadline, overdue

    def leave(self) -> None:
        """Tell the worker to exit when it is done."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close all descriptors."""
        self.close_theirs()
        self.connection.close()
        for output in self.outputs:
            os.close(output.fileno)

    def _number(self, function: FunctionReference) -> tuple[int, bool]:
        known = self._numbers.get(id(function))
        if known is not None:
            return known[0], False
        number = len(self._numbers)
        self._numbers[id(function)] = (number, function)  # kept alive, so that its id stays its own
        return number, True
