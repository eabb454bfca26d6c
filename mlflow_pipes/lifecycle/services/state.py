"""What is known of a service: the record users see, and the files it is kept in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mlflow_pipes.errors import ArgumentError
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.quick_dataclasses import dataclass

ServiceStatus: TypeAlias = Literal["running", "unhealthy", "dead", "stopped"]
STATE_FILE = "service.json"
_LOOPBACK_4 = re.compile(r"127(\.\d{1,3}){3}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Service:
    """A deployed model, as it stood when asked.

    Attributes:
        name: what it is called in the workspace.
        version: of the model, as the one who deployed it calls it.
        model_digest: identity of the served model's files.
        host, port: where it listens.
        pid: its process; *process* tells that process from a later one with the same pid.
        started_at: seconds since the epoch.
        release: names the folder of its model and log below the service's folder.
        tags: free labels.
        status: ``running``; ``unhealthy`` (the process lives but does not answer); ``dead`` (the process is gone
            though nobody stopped it); ``stopped``.
        is_new: whether the call that gave this record started a process.
    """

    name: str
    version: str
    model_digest: str
    host: str
    port: int
    pid: int
    process: str
    started_at: float
    release: str
    tags: Mapping[str, str] = field(default_factory=dict)
    status: ServiceStatus = "running"
    is_new: bool = False

    @property
    def url(self) -> str:
        """Where it answers, such as ``http://127.0.0.1:41234``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def checked_name(name: str) -> str:
    """Return *name* if a service may be called so: it becomes a folder and stands on command lines.

    Raises:
        ArgumentError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"a service cannot be called {name!r}: use 1 to 63 letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    return name


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Replace *file* in one step: a reader sees the old content or the new, never half of it."""
    write_whole(file, json.dumps(content, indent=1))


def read_json(file: Path) -> dict[str, Any] | None:
    """Return what :func:`write_json` wrote; None when the file is not there or is no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def write_service(folder: Path, service: Service) -> None:
    """Make *service* what is deployed in *folder*."""
    content = asdict(service)
    del content["is_new"]
    write_json(folder / STATE_FILE, content)


def read_service(folder: Path) -> Service | None:
    """Return what is deployed in *folder*, with the status as last written; None when nothing is.

    Fields of later versions are ignored; a file that lacks fields counts as none.
    """
    content = read_json(folder / STATE_FILE)
    if content is None:
        return None
    known = {item.name for item in fields(Service)}
    try:
        return Service(**{key: value for key, value in content.items() if key in known})
    except TypeError:
        return None


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach *host*."""
    return host in {"localhost", "::1"} or bool(_LOOPBACK_4.fullmatch(host))
