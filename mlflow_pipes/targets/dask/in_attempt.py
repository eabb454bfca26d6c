"""What runs in an attempt's process on a Dask worker, when its step uses Dask itself: a client of the cluster."""

from __future__ import annotations

import functools
import inspect
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import TargetError
from mlflow_pipes.worker.clusters import SCHEDULER, by_value

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import Assignment

WORKER = "PIPES_DASK_WORKER"
TOPIC = "PIPES_DASK_TOPIC"
_TLS = {  # what Dask's Security says, and the environment variables by which a Client of the step's own finds it
    "tls_ca_file": "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
    "tls_client_cert": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
    "tls_client_key": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY",
}

_clients: dict[str, Any] = {}


def environ_of(worker: Any, topic: str) -> dict[str, str]:
    """Return the environment variables that tell an attempt of a Dask worker which cluster it is on."""
    scheduler = worker.scheduler.address
    found = {SCHEDULER: scheduler, "DASK_SCHEDULER_ADDRESS": scheduler, WORKER: worker.address, TOPIC: topic}
    if not scheduler.startswith("tls://"):
        return found
    told = worker.security
    names = {
        "tls_ca_file": told.tls_ca_file,
        "tls_client_cert": told.tls_client_cert or told.tls_worker_cert,
        "tls_client_key": told.tls_client_key or told.tls_worker_key,
    }
    files = {_TLS[name]: _file(Path(worker.local_directory), name, text) for name, text in names.items() if text}
    return {**found, **files, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}


def join(assignment: Assignment) -> None:
    """Have Dask compute on the cluster, and the thread that waits for this attempt make way for its tasks.

    Raises:
        TargetError: the scheduler cannot be reached.
    """
    from mlflow_pipes.targets.dask import on_worker

    address = os.environ[SCHEDULER]
    try:
        client = _clients.get(address)
        if client is None or client.status != "running":
            client = _clients[address] = _client_class()(address, security=_security(os.environ), set_as_default=True)
        client.assignment = assignment
        client.run(on_worker.make_way, os.environ[TOPIC], tuple(assignment.attempt), workers=[os.environ[WORKER]])
    except (OSError, ValueError) as error:
        raise TargetError(f"the Dask scheduler at {address} cannot be reached from an attempt: {error}") from error


class _AsBytes:
    """A graph whose pickle is a call that reads bytes, which cloudpickle made of it with the step's code by value."""

    def __init__(self, graph: Any, assignment: Assignment) -> None:
        self._graph = graph
        self._assignment = assignment

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        with by_value(self._assignment, cloudpickle):
            return pickle.loads, (cloudpickle.dumps(self._graph, 5),)


@functools.cache
def _client_class() -> Any:
    """Return Dask's client, but that the step's own code goes along with what it computes.

    Dask itself pickles by name what can be, and its workers could not find that.
    """
    from distributed import Client

    if "expr" not in inspect.signature(Client._graph_to_futures).parameters:  # noqa: SLF001 - the only place for it
        return Client  # before 2025, graphs are taken apart here; modules of steps must be importable by the workers

    class ClientOfAttempt(Client):  # type: ignore[misc]
        def _graph_to_futures(self, expr: Any, *args: Any, **kwargs: Any) -> Any:
            return super()._graph_to_futures(_AsBytes(expr, self.assignment), *args, **kwargs)

    return ClientOfAttempt


def _security(environ: Mapping[str, str]) -> Any:
    if not environ[SCHEDULER].startswith("tls://"):
        return None
    from distributed.security import Security

    return Security(require_encryption=True, **{name: environ.get(variable) for name, variable in _TLS.items()})


def _file(folder: Path, name: str, text: str) -> str:
    """Return the path of what may be given as a path or as itself; keys are for this user only."""
    if "-----BEGIN" not in text:
        return str(Path(text).absolute())
    path = folder / f"{name}.pem"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        fresh.rename(path)
    return str(path)
