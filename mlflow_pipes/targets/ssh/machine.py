"""Which machine a target uses and how it is reached: what is configured, and the command line that follows from it."""

from __future__ import annotations

import shlex
from pathlib import Path

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.quick_dataclasses import dataclass

FOLDER = "~/.cache/mlflow_pipes"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that can be reached by ssh; the keys of ``[targets.NAME]``.

    Attributes:
        host: name, address or an alias of ``~/.ssh/config``.
        port: 0 for what ssh's own configuration says.
        user: as *port*.
        key: file of the private key; empty for what ssh's own configuration and agent offer.
        known_hosts: file of the host keys that are trusted; empty for the user's own.
        python: interpreter there.
        folder: of ours there; made when it is not there.
        connect_timeout_s: how long to try to connect.
        reconnect_s: how long attempts go on without a connection.
    """

    host: str
    port: int = 0
    user: str = ""
    key: str = ""
    known_hosts: str = ""
    python: str = "python3"
    folder: str = FOLDER
    connect_timeout_s: float = 20.0
    reconnect_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what ssh would take for an option."""
        for what, text in (("host", self.host), ("user", self.user)):
            if text.startswith("-") or any(letter.isspace() for letter in text):
                raise ConfigurationError(f"{what} {text!r} is no {what} that ssh can be given")
        if not self.host:
            raise ConfigurationError("a target of type ssh needs a `host`")

    @property
    def where(self) -> str:
        """The machine, for messages."""
        return f"{f'{self.user}@' if self.user else ''}{self.host}{f':{self.port}' if self.port else ''}"

    @property
    def known_as(self) -> str:
        """The name that a file of host keys has it by."""
        return f"[{self.host}]:{self.port}" if self.port not in {0, 22} else self.host

    def command(self, script: str) -> list[str]:
        """Return the command that runs a Python script there; host keys are always checked, and nothing is asked."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": f"{max(1, round(self.connect_timeout_s))}",
            "UpdateHostKeys": "no",
            "ControlMaster": "no",
            "ControlPath": "none",  # a connection of its own: its end is ours to see
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
        }
        if self.known_hosts:
            options["UserKnownHostsFile"] = _quoted(Path(self.known_hosts).expanduser())
            options["GlobalKnownHostsFile"] = "none"
        if self.key:
            options["IdentitiesOnly"] = "yes"
            options["IdentityFile"] = _quoted(Path(self.key).expanduser())
        command = ["ssh", "-T"]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        command += ["-p", str(self.port)] if self.port else []
        command += ["-l", self.user] if self.user else []
        return [*command, "--", self.host, f"{_interpreter(self.python)} -c {shlex.quote(script)}"]


def _quoted(path: Path) -> str:
    text = str(path.absolute()).replace("%", "%%")
    return f'"{text}"' if " " in text else text


def _interpreter(python: str) -> str:
    """Return an interpreter as a shell's word; a home folder stays one."""
    if python.startswith("~/"):
        return f"~/{shlex.quote(python[2:])}"
    return shlex.quote(python)
