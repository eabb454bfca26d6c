"""The driver's process, as the orchestrator has it: started, told, heard, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_TAIL_BYTES = 20_000
_ENDS_WITHIN_S = 15.0


class DriverLink:
    """A driver in a process of its own, in a session of its own: the terminal's Ctrl-C does not reach it.

    Args:
        setup: see ``driver.Driver``.
        log: file for what it and Java write.
        on_said: takes each thing that it says, and None when it is gone; called from a thread of this.
    """

    def __init__(
        self, setup: Mapping[str, Any], log: Path, on_said: Callable[[DriverLink, dict[str, Any] | None], None]
    ) -> None:
        self._log = log
        self._on_said = on_said
        self._saying = threading.Lock()
        self._channel, theirs = socket.socketpair()
        log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlflow_pipes.targets.spark.driver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.say(setup)
        self._thread = threading.Thread(target=self._listen, name="driver", daemon=True)
        self._thread.start()

    def say(self, what: Mapping[str, Any]) -> None:
        """Tell it something; nothing happens when it is gone, which is told otherwise."""
        with self._saying, suppress(OSError):
            self._channel.sendall(json.dumps(what).encode() + b"\n")

    def end(self) -> None:
        """Have it cancel its jobs and end with all that it started; waits for that."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDS_WITHIN_S)
        self.kill()

    def kill(self) -> None:
        """End it at once, and Java with it; what is left of them when it has ended by itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: nobody else is in there
        self._process.wait()
        self._close()

    def last_words(self) -> str:
        """Return the end of what it and Java wrote."""
        with suppress(OSError), self._log.open("rb") as stream:
            stream.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            return stream.read().decode("utf-8", "replace")
        return ""

    def _close(self) -> None:
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._channel.close()

    def _listen(self) -> None:
        with suppress(OSError, ValueError), self._channel.makefile("r", encoding="utf-8") as stream:
            for line in stream:
                self._on_said(self, json.loads(line))
        self._on_said(self, None)
