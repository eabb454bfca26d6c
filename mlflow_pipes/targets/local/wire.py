"""Messages between orchestrator, zygote and workers: pickled frames with their length in front, over Unix sockets."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import Assignment, AttemptId, Failure, GpuUse
from mlflow_pipes.model.step import FunctionReference
from mlflow_pipes.model.tracked import Tracked

if TYPE_CHECKING:
    import socket

_LENGTH = struct.Struct("!Q")


class Setup(NamedTuple):
    """To the zygote, before the first worker of a run: what all workers of the run share.

    Attributes:
        expected: of an environment, its Python's minor version and its packages; *sys_path* comes before its own then.
    """

    sys_path: list[str]
    cwd: str
    datastore: bytes
    checkout: str
    scratch: str
    workspace: str
    preload: tuple[str, ...]
    expected: tuple[str, Mapping[str, str]] | None = None


class Work(NamedTuple):
    """An attempt, for a worker. Plain fields: unpickling a frozen dataclass of that size costs twice as much.

    Attributes:
        number: names the function on this connection; *function* itself comes with its first use only,
            because its sources may be long and a worker often does one step many times.
    """

    attempt: tuple[str, str, int]
    pipeline: str
    number: int
    function: FunctionReference | None
    arguments: dict[str, Artifact]
    environ: Mapping[str, str]
    step_run_id: str
    idempotency_key: str
    random_seed: int
    tracks_mlflow: bool
    tags: Mapping[str, str]
    retry_when: FunctionReference | None

    def assignment(self, function: FunctionReference) -> Assignment:
        """Return the attempt as the rest of the worker knows it."""
        return Assignment(
            attempt=AttemptId(*self.attempt),
            pipeline=self.pipeline,
            function=function,
            arguments=self.arguments,
            environ=self.environ,
            step_run_id=self.step_run_id,
            idempotency_key=self.idempotency_key,
            random_seed=self.random_seed,
            tracks_mlflow=self.tracks_mlflow,
            tags=self.tags,
            retry_when=self.retry_when,
        )


class Warm(NamedTuple):
    """To a worker that has done nothing yet: import what these functions are found in, as their attempts would.

    Attributes:
        functions: by the numbers that name them on this connection.
    """

    functions: dict[int, FunctionReference]
    environ: Mapping[str, str]


class Ready(NamedTuple):
    """A worker can take work."""

    pid: int


class Line(NamedTuple):
    """A line of Python's ``logging``, from a worker."""

    text: str
    at: float


class Moved(NamedTuple):
    """Progress of the step, from a worker."""

    done: float
    total: float
    text: str


class Ended(NamedTuple):
    """How the attempt ended, from a worker: *output* or *failure*.

    Attributes:
        stale: the failure is that source files changed, and this process had run steps before: a fresh worker
            may have no such trouble.
        worn: the step left this process such that no other may run in it; it is to be replaced.
    """

    output: Artifact | None
    failure: Failure | None
    started_at: float
    ended_at: float
    cpu_s: float
    peak_memory_bytes: int
    tracked: Tracked | None
    warnings: tuple[str, ...]
    stale: bool = False
    worn: bool = False


class Fork(NamedTuple):
    """To the zygote, with three descriptors (connection, stdout, stderr): make a worker."""

    slot: int


class Release(NamedTuple):
    """To the zygote: an ended worker's id may be used again."""

    pid: int


class Remove(NamedTuple):
    """To the zygote: remove a folder that a killed attempt left."""

    folder: str


class Measure(NamedTuple):
    """To the zygote: tell what workers use.

    Attributes:
        workers: by process id the graphics processors that its attempt has to itself, as ``CUDA_VISIBLE_DEVICES``
            names them; empty for none.
    """

    workers: dict[int, str]


class Rest(NamedTuple):
    """To the zygote: the run is over; end when no other one is set up in that time."""

    at_most_s: float


class Forked(NamedTuple):
    """From the zygote: a worker has this process id."""

    slot: int
    pid: int


class Exited(NamedTuple):
    """From the zygote: a worker ended. Its process id stays taken until it is released.

    Attributes:
        signal: number of the signal that killed it, 0 when it exited with *code*.
    """

    pid: int
    code: int
    signal: int


class Measured(NamedTuple):
    """From the zygote: what a worker, with all that it started, has used until now.

    Attributes:
        at: seconds since the epoch.
        cpu_s: processor time since the process began.
    """

    pid: int
    at: float
    cpu_s: float
    memory_bytes: int
    gpus: tuple[GpuUse, ...]


def encode(message: Any) -> bytes:
    """Return a message as a frame."""
    body = pickle.dumps(message, 5)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Takes bytes as they arrive, gives whole messages."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[Any]:
        """Return the messages that *piece* completes."""
        if not self._buffer and len(piece) >= 8 and len(piece) == 8 + _LENGTH.unpack_from(piece)[0]:
            return [pickle.loads(memoryview(piece)[8:])]  # nearly always: one message arrives whole
        self._buffer += piece
        messages = []
        start = 0
        with memoryview(self._buffer) as view:
            while len(view) - start >= 8:
                end = start + 8 + _LENGTH.unpack_from(view, start)[0]
                if len(view) < end:
                    break
                with view[start + 8 : end] as body:
                    messages.append(pickle.loads(body))
                start = end
        del self._buffer[:start]
        return messages


def receive(connection: socket.socket, frames: Frames) -> list[Any] | None:
    """Wait for messages on a blocking connection; None at its end."""
    while True:
        piece = connection.recv(1 << 16)
        if not piece:
            return None
        if messages := frames.feed(piece):
            return messages
