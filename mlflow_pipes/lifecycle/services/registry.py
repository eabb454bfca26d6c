"""The services of a workspace: deployed, listed, called, logged and stopped."""

from __future__ import annotations

import builtins
import importlib.util
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_pipes.errors import ArgumentError, ConfigurationError, NotFoundError, ServiceError, suggest
from mlflow_pipes.lifecycle.models.folder import model_digest as digest_of_folder
from mlflow_pipes.lifecycle.services import client
from mlflow_pipes.lifecycle.services.state import (
    Service,
    checked_name,
    is_loopback,
    read_json,
    read_service,
    write_json,
    write_service,
)
from mlflow_pipes.machine import daemons
from mlflow_pipes.machine.locks import exclusive
from mlflow_pipes.machine.processes import identity

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 16 * 1024 * 1024
_LOG_TAIL_LINES = 40
# Where the deploying process logs to is no business of the service.
_NOT_INHERITED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID",
                  "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")  # fmt: skip


class ServiceRegistry:
    """The services below one folder, each a process of its own; safe for several threads and processes.

    ``FOLDER/NAME/service.json`` tells what is deployed; ``FOLDER/NAME/releases/ID/`` holds the model and the log of
    each process started for it. The state changes only once the new process is healthy.

    Args:
        folder: where they live, ``.pipes/services`` in a workspace.
        orphan_after_s: a service process that the state no longer names ends after that time.
        stop_timeout_s: what a process has to end by itself before it is killed.
    """

    def __init__(self, folder: Path, *, orphan_after_s: float = 60.0, stop_timeout_s: float = STOP_TIMEOUT_S) -> None:
        self.folder = folder.absolute()
        self._orphan_after_s = orphan_after_s
        self._stop_timeout_s = stop_timeout_s

    @classmethod
    def of_workspace(cls, folder: Path) -> ServiceRegistry:
        """Return the services of the workspace in *folder*."""
        return cls(folder / "services")

    def deploy(
        self,
        name: str,
        model: Path | Callable[[], Path],
        *,
        version: str = "",
        model_digest: str | None = None,
        tags: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        expose: bool = False,
        replace: bool = True,
        start_timeout_s: float = START_TIMEOUT_S,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Service:
        """Return a healthy service that serves the model; what already does is only checked (milliseconds).

        A dead or unhealthy service is started again, a service of another model or version replaced; it keeps its
        port. The old process serves until the new one is healthy.

        Args:
            name: of the service.
            model: an MLflow model folder, copied; or a function that gives it, called only when it is needed.
            version: what to call the model's version.
            model_digest: the model's identity, needed when *model* is a function; else found from its files.
            tags: free labels.
            host: where to listen.
            port: where to listen; 0 keeps the service's port or takes a free one.
            expose: must be said for a *host* that other machines can reach: the service asks nobody who they are.
            replace: whether a running service of another model or version may be replaced.
            start_timeout_s: how long the new process may take until it is healthy.
            max_body_bytes: longest request that the service takes.

        Raises:
            ArgumentError: the name, host or port cannot be used, or *model* is no model folder.
            ConfigurationError: the packages for serving are missing, or *replace* forbids what is asked.
            ServiceError: the new process did not become healthy; the message ends with its log. What ran before
                serves on.
        """
        checked_name(name)
        _check_address(host, port, expose=expose)
        if model_digest is None:
            if callable(model):
                raise ArgumentError("deploy: give model_digest with a function that fetches the model")
            model_digest = digest_of_folder(model)
        with self._alone(name, f"deploying service {name!r}", start_timeout_s + STOP_TIMEOUT_S):
            home = self.folder / name
            current = self._seen(home)
            same = (
                current is not None
                and (current.model_digest, current.version, current.host) == (model_digest, version, host)
                and port in {0, current.port}
            )
            if current is not None and same and current.status == "running":
                return current
            if current is not None and not same and not replace and current.status in {"running", "unhealthy"}:
                raise ConfigurationError(
                    f"service {name!r} serves version {current.version!r} of another model; "
                    "deploy with replace=True, or stop it first"
                )
            _check_packages()
            home.mkdir(parents=True, exist_ok=True)
            self._remove_other_releases(home, keep=current.release if current else None)
            wanted = Service(
                name=name, version=version, model_digest=model_digest, host=host, port=port, pid=0, process="",
                started_at=time.time(), release=f"{int(time.time())}-{uuid.uuid4().hex[:8]}", tags=dict(tags or {}),
                is_new=True,
            )  # fmt: skip
            started = self._start(home, wanted, current, model, start_timeout_s, max_body_bytes)
            self._remove_other_releases(home, keep=started.release)
            return started

    def get(self, name: str) -> Service:
        """Return the service as it stands now.

        Raises:
            NotFoundError: there is none of that name.
        """
        service = self._seen(self.folder / checked_name(name))
        if service is None:
            raise NotFoundError(f"no service {name!r}{suggest(name, self._names())} (`pipes services` lists them)")
        return service

    def list(self) -> builtins.list[Service]:
        """Return all services as they stand now, by name."""
        found = (self._seen(self.folder / name) for name in self._names())
        return [service for service in found if service is not None]

    def stop(self, name: str, *, timeout_s: float = STOP_TIMEOUT_S) -> Service:
        """Stop the service and return its record; its address and model stay known. Idempotent.

        Raises:
            NotFoundError: there is none of that name.
            WorldError: its process does not end.
        """
        self.get(name)
        with self._alone(name, f"stopping service {name!r}", START_TIMEOUT_S + STOP_TIMEOUT_S):
            service = self.get(name)
            stopped = replace(service, status="stopped")
            daemons.terminate(service.pid, service.process, timeout_s=timeout_s)
            write_service(self.folder / name, stopped)
            self._remove_other_releases(self.folder / name, keep=service.release)
            return stopped

    def remove(self, name: str) -> None:
        """Stop the service and delete all that is kept of it.

        Raises:
            NotFoundError: there is none of that name.
            WorldError: its process does not end.
        """
        self.stop(name)
        with self._alone(name, f"removing service {name!r}", START_TIMEOUT_S + STOP_TIMEOUT_S):
            self._remove_other_releases(self.folder / name, keep=None)
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def call(self, name: str, rows: Any, *, timeout_s: float = 60.0) -> builtins.list[Any]:
        """Return the service's prediction for each row; see :func:`client.predict`.

        Raises:
            NotFoundError: there is no service of that name.
            ArgumentError: the service refused the rows.
            ServiceError: it does not answer, or failed.
        """
        service = self.get(name)
        if service.status in {"dead", "stopped"}:
            raise ServiceError(f"service {name!r} is {service.status}; deploy it again")
        return client.predict(service, rows, timeout_s=timeout_s)

    def logs(self, name: str, *, follow: bool = False, last: int | None = None) -> Iterator[str]:
        """Yield the lines of the service's log, at most the *last* ones; with *follow*, new ones as they come.

        Following goes over to a replaced service's new log, and ends when the service is dead or stopped.

        Raises:
            NotFoundError: there is no service of that name.
        """
        service = self.get(name)
        log = self._log(service)
        lines = _lines(log)
        yield from lines[-last:] if last is not None else lines
        place = len(lines)
        while follow:
            over = self._is_over(service)
            lines = _lines(log)
            if len(lines) < place:
                place = 0
            yield from lines[place:]
            place = len(lines)
            if over:
                return
            current = read_service(self.folder / name)
            if current is not None and current.release != service.release:
                service, log, place = current, self._log(current), 0
            else:
                time.sleep(0.2)

    def _is_over(self, service: Service) -> bool:
        current = read_service(self.folder / service.name)
        return current is None or not daemons.alive(current.pid, current.process)

    def _names(self) -> builtins.list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(item.name for item in self.folder.iterdir() if item.is_dir() and not item.name.startswith("."))

    def _alone(self, name: str, what: str, timeout_s: float) -> Any:
        return exclusive(self.folder / f".{name}.lock", what=what, timeout_s=timeout_s)

    def _log(self, service: Service) -> Path:
        return self.folder / service.name / "releases" / service.release / "log.txt"

    def _seen(self, home: Path) -> Service | None:
        """Return what is deployed with its true status."""
        service = read_service(home)
        if service is None or service.status == "stopped":
            return service
        if not daemons.alive(service.pid, service.process):
            return replace(service, status="dead")
        return replace(service, status="running" if client.healthy(service) else "unhealthy")

    def _start(
        self,
        home: Path,
        wanted: Service,
        current: Service | None,
        model: Path | Callable[[], Path],
        timeout_s: float,
        max_body_bytes: int,
    ) -> Service:
        """Start a process for *wanted*, wait until it is healthy, make it what is deployed, stop *current*."""
        release = home / "releases" / wanted.release
        release.mkdir(parents=True)
        try:
            folder = model() if callable(model) else model
            shutil.copytree(folder, release / "model", copy_function=shutil.copyfile)
            ours = current is not None and daemons.alive(current.pid, current.process)
            same_address = current is not None and current.host == wanted.host and wanted.port in {0, current.port}
            port = current.port if current is not None and same_address else wanted.port
            settings = {
                "name": wanted.name, "version": wanted.version, "model_digest": wanted.model_digest,
                "release": wanted.release, "host": wanted.host, "port": port, "port_is_ours": ours and same_address,
                "port_required": wanted.port != 0, "max_body_bytes": max_body_bytes,
                "orphan_after_s": self._orphan_after_s,
            }  # fmt: skip
            write_json(release / "release.json", settings)
            pid = daemons.spawn(
                f"{__package__}.server", [str(release)], log=release / "log.txt", environ=_environ(), folder=release
            )
            started = self._healthy(replace(wanted, pid=pid, process=identity(pid) or "gone"), timeout_s)
            write_service(home, started)
        except BaseException:
            self._discard(release)
            raise
        if current is not None:
            daemons.terminate(current.pid, current.process, timeout_s=self._stop_timeout_s)
        return started

    def _healthy(self, service: Service, timeout_s: float) -> Service:
        """Wait until the service's process listens and is healthy; return it with its port."""
        release = self.folder / service.name / "releases" / service.release
        deadline = time.monotonic() + timeout_s
        ready = None
        while time.monotonic() < deadline:
            if not daemons.alive(service.pid, service.process):
                why = "its process ended before it was healthy"
                break
            ready = ready or read_json(release / "ready.json")
            # While two releases share a port, an answer may come from the other: ask again.
            if ready and client.healthy(replace(service, port=ready["port"]), timeout_s=2.0):
                return replace(service, port=ready["port"])
            time.sleep(0.02)
        else:
            why = f"it was not healthy within {timeout_s:g} s"
        kept = release.parent.parent / "failed.log"
        shutil.copyfile(release / "log.txt", kept)
        tail = "\n".join(f"  {line}" for line in _lines(kept)[-_LOG_TAIL_LINES:])
        raise ServiceError(f"service {service.name!r} did not start: {why}. The end of its log ({kept}):\n{tail}")

    def _remove_other_releases(self, home: Path, keep: str | None) -> None:
        """Stop and delete what a killed deploy or a replaced model left behind."""
        for release in home.glob("releases/*"):
            if release.name != keep:
                self._discard(release)

    def _discard(self, release: Path) -> None:
        left = read_json(release / "process.json")
        if left:
            daemons.terminate(left["pid"], left["process"], timeout_s=self._stop_timeout_s)
        shutil.rmtree(release, ignore_errors=True)


def _check_address(host: str, port: int, *, expose: bool) -> None:
    if not 0 <= port <= 65535:
        raise ArgumentError(f"port {port} is none: use 1 to 65535, or 0 for a free one")
    if not expose and not is_loopback(host):
        raise ArgumentError(
            f"host {host!r} can be reached from other machines, and the service asks nobody who they are: "
            "use 127.0.0.1, or say expose=True if you mean it"
        )


def _check_packages() -> None:
    missing = [name for name in ("mlflow", "pandas", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"serving needs {', '.join(missing)}: pip install 'mlflow_pipes[serving]'")


def _environ() -> dict[str, str]:
    """Return the environment of a service: ours, but nothing of the run, and with the project importable."""
    environ = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    installed = (sys.prefix, sys.base_prefix)
    ours = [path for path in sys.path if path and Path(path).is_dir() and not path.startswith(installed)]
    environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*ours, *filter(None, [environ.get("PYTHONPATH")])]))
    return environ


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
