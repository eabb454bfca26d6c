"""A connection to a session's process on the other machine: ssh, and the first words through it."""

from __future__ import annotations

import base64
import functools
import json
import os
import select
import subprocess
import tempfile
import time
import zlib
from contextlib import suppress
from importlib import resources
from typing import IO, Any

from mlflow_pipes.environments.support import MODULES, OLDEST_PYTHON
from mlflow_pipes.errors import TargetError
from mlflow_pipes.targets.ssh.bootstrap import MARK
from mlflow_pipes.targets.ssh.machine import Machine
from mlflow_pipes.targets.ssh.shipment import shipment_for
from mlflow_pipes.targets.ssh.troubles import explained
from mlflow_pipes.targets.station.post import Line, LineBroken

_MOST_GREETINGS = 1024 * 1024
_ENDS_WITHIN_S = 5.0
_BUILDS_WITHIN_S = 600.0  # to send our package and have pip add to it


class SessionGoneError(TargetError):
    """There is no such session on the machine any more."""


class Connection:
    """An ssh process that leads to a session's process.

    Args:
        machine: where to.
        session: its name there.
        is_new: it is to be begun; else it is to be found.
        within_s: how long to try.

    Attributes:
        line: to speak to it.
        folder: ours there, absolute; empty when the session was not new.

    Raises:
        SessionGoneError: it was to be found and is not there.
        TargetError: the machine cannot be reached, or cannot do what it should.
    """

    def __init__(self, machine: Machine, session: str, *, is_new: bool, within_s: float) -> None:
        self.folder = ""
        self._machine = machine
        self._deadline = time.monotonic() + within_s
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        try:
            self._process = subprocess.Popen(
                machine.command(_script()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,  # the terminal's Ctrl-C does not reach it
            )
        except OSError as error:
            self._errors.close()
            raise TargetError(
                f"cannot start ssh ({error.strerror}): install OpenSSH's client, such as the package openssh-client"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.line = Line(self._process.stdout.fileno(), self._process.stdin.fileno(), self._process.kill)
        try:
            self._greet(session, is_new=is_new)
        except LineBroken:
            trouble = self._trouble()
            self.close()
            raise TargetError(trouble) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def _greet(self, session: str, *, is_new: bool) -> None:
        machine = self._machine
        facts = self._hear()
        if tuple(facts["python"]) < OLDEST_PYTHON:
            found, needed = (".".join(map(str, version)) for version in (facts["python"], OLDEST_PYTHON))
            raise TargetError(
                f"{facts['executable']} on {machine.where} is Python {found}, and {needed} or newer is needed: install "
                "it there, or name another interpreter by `python`"
            )
        asked = {"folder": machine.folder, "session": session, "reconnect_s": machine.reconnect_s}
        self._say({**asked, "is_new": is_new, "modules": list(MODULES)})
        if is_new:
            facts = self._hear()
            self.folder = facts["folder"]
            shipment = shipment_for(facts["soabi"], tuple(facts["lacks"]))
            packed = b"" if shipment.name in facts["have"] else shipment.packed()
            if packed:
                self._deadline = time.monotonic() + _BUILDS_WITHIN_S
            self._say({"package": shipment.name, "size": len(packed), "install": list(shipment.install)})
            self.line.write((packed,))
        answer = self._hear()
        if answer.get("gone"):
            raise SessionGoneError(f"the station on {machine.where} is gone: its process, or the machine, has ended")

    def _say(self, record: dict[str, Any]) -> None:
        self.line.write((json.dumps(record).encode("ascii") + b"\n",))

    def _hear(self) -> dict[str, Any]:
        """Return the next record; what else shells may say is skipped. Reads no byte behind it."""
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        line = b""
        for _ in range(_MOST_GREETINGS):
            if not select.select([number], [], [], max(0.0, self._deadline - time.monotonic()))[0]:
                raise LineBroken("too late")
            piece = os.read(number, 1)
            if not piece:
                raise LineBroken("ended")
            line += piece
            if piece == b"\n":
                _, mark, said = line.rpartition(MARK)
                if mark:
                    return self._checked(json.loads(said))
                line = b""
        raise LineBroken("no end of greetings")

    def _checked(self, record: dict[str, Any]) -> dict[str, Any]:
        if "error" in record:
            raise TargetError(f"{self._machine.where}: {record['error']}")
        return record

    def _trouble(self) -> str:
        """Return why there is no connection, as ssh tells it."""
        code = None
        if time.monotonic() < self._deadline:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_ENDS_WITHIN_S)
        self._errors.seek(0)
        return explained(self._machine, self._errors.read().decode("utf-8", "replace"), code)


@functools.cache
def _script() -> str:
    """Return what runs first there, as a script that any shell hands on unharmed."""
    source = resources.files("mlflow_pipes.targets.ssh").joinpath("bootstrap.py").read_bytes()
    packed = base64.b64encode(zlib.compress(source, 9)).decode("ascii")
    return f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{packed}")))'
