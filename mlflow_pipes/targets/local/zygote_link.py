"""The orchestrator's end of the zygote."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow_pipes
from mlflow_pipes.errors import TargetError
from mlflow_pipes.targets.local import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKAGE_FOLDER = str(Path(mlflow_pipes.__file__).parent.parent)
_START = "import sys; sys.path.insert(0, sys.argv[1]); from mlflow_pipes.targets.local.zygote import main; main({fd})"
# Another interpreter: it has the descriptor's number from a variable, since who starts it may change the number.
_START_ELSEWHERE = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); from mlflow_pipes.targets.local.zygote import main; "
    "main(int(os.environ.pop('PIPES_CONTROL_FD')))"
)
_KEPT_STDERR_BYTES = 8 * 1024


class ZygoteLink:
    """A running zygote.

    Args:
        environ: all its environment variables.
        command: starts another interpreter than this process's.
        package: folder that the other interpreter imports our own package from.

    Attributes:
        has_spoken: whether it has said anything: before, it is still starting.

    Raises:
        TargetError: the process cannot be started.
    """

    def __init__(self, environ: Mapping[str, str], command: Sequence[str] = (), package: str = "") -> None:
        self.connection, theirs = socket.socketpair()
        self.has_spoken = False
        self._frames = wire.Frames()
        self._stderr = b""
        self.stderr_fd, their_stderr = os.pipe()
        os.set_blocking(self.stderr_fd, False)
        options = [f"-W{option}" for option in sys.warnoptions]
        fd = theirs.fileno()
        if command:
            started = [*command, *options, "-c", _START_ELSEWHERE, package]
            environ = {**environ, "PIPES_CONTROL_FD": str(fd)}
        else:
            started = [sys.executable, *options, "-c", _START.format(fd=fd), _PACKAGE_FOLDER]
        try:
            self._process = subprocess.Popen(
                started,
                stdin=subprocess.DEVNULL,
                stdout=their_stderr,
                stderr=their_stderr,
                pass_fds=(fd,),
                env=dict(environ),
                start_new_session=True,  # the terminal's Ctrl-C does not reach it
            )
        except OSError as error:
            self.connection.close()
            os.close(self.stderr_fd)
            raise TargetError(f"cannot start workers: {started[0]}: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(their_stderr)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def set_up(self, setup: wire.Setup) -> None:
        """Say what workers forked from now on share; once before the first, and for each further run."""
        self._stderr = b""
        self._say(setup)

    def rest(self, at_most_s: float) -> None:
        """Say that no worker is needed for now: left alone for that long, it ends itself."""
        self._say(wire.Rest(at_most_s))

    def is_alive(self) -> bool:
        """Tell whether the process has not ended."""
        return self._process.poll() is None

    def fork(self, slot: int, descriptors: list[int]) -> None:
        """Ask for a worker that has *descriptors* (connection, stdout, stderr)."""
        with suppress(OSError):  # a dead zygote is noticed by the end of its connection
            socket.send_fds(self.connection, [wire.encode(wire.Fork(slot))], descriptors)

    def release(self, pid: int) -> None:
        """Say that an ended worker is cleaned up after."""
        self._say(wire.Release(pid))

    def remove(self, folder: Path) -> None:
        """Have a folder removed."""
        self._say(wire.Remove(str(folder)))

    def measure(self, workers: Mapping[int, str]) -> None:
        """Ask what workers use, given by process id with the graphics processors that each has to itself."""
        self._say(wire.Measure(dict(workers)))

    def notices(self) -> list[Any] | None:
        """Return what it has said, without waiting; None when it is dead."""
        try:
            piece = self.connection.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            return None
        self.has_spoken = True
        return self._frames.feed(piece) if piece else None

    def read_stderr(self) -> bool:
        """Keep the last of what it wrote; return False at the end of it."""
        with suppress(BlockingIOError):
            piece = os.read(self.stderr_fd, 1 << 16)
            self._stderr = (self._stderr + piece)[-_KEPT_STDERR_BYTES:]
            return bool(piece)
        return True

    def obituary(self) -> str:
        """Return how it ended and its last words, once it has."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        for _ in range(8):
            if not self.read_stderr():
                break
        code = self._process.poll()
        how = ended_by(code or 0, 0) if code is None or code >= 0 else ended_by(0, -code)
        words = self._stderr.decode("utf-8", "replace").strip()
        return f"{how}\n{words}" if words else how

    def kill(self) -> None:
        """Kill it: its workers die with it, not what they started."""
        self._process.kill()

    def end(self) -> None:
        """Kill it when it has no workers, and forget it: 1 ms, where asking it to end takes 20."""
        self._process.kill()
        self.close()

    def close(self, timeout_s: float = 2.0) -> None:
        """End it: it kills the workers that it still has."""
        self.connection.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self.stderr_fd)

    def disown(self) -> None:
        """Close our copies of its descriptors, in a child that this process forked: it is the parent's."""
        self.connection.close()
        os.close(self.stderr_fd)
        self._process.returncode = 0  # so that subprocess does not ask after another's child

    def _say(self, message: Any) -> None:
        with suppress(OSError):
            self.connection.sendall(wire.encode(message))


def ended_by(code: int, number: int) -> str:
    """Return in words how a process ended.

    >>> ended_by(3, 0), ended_by(0, 11)
    ('exited with code 3', 'was killed by signal 11 (SIGSEGV)')
    """
    if not number:
        return f"exited with code {code}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    return f"was killed by signal {number} ({name})"
