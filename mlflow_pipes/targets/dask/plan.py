"""Which Dask scheduler a target uses, as it is configured. Importing this does not import Dask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.wording import bytes_in

LOCAL = "distributed.LocalCluster"
_LOCALS = (
    LOCAL,
    "dask.distributed.LocalCluster",
    "distributed.deploy.LocalCluster",
    "distributed.deploy.local.LocalCluster",
)


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Which scheduler to use; the keys of ``[targets.NAME]``.

    Attributes:
        address: of a scheduler that is there; empty to make a cluster.
        security: keyword arguments of ``distributed.security.Security``, for TLS.
        cluster: dotted name of a Dask cluster class.
        arguments: its keyword arguments.
        workers: how many to ask it for; None for what the arguments say.
        minimum, maximum: between how many it grows and shrinks with the work; maximum None for a fixed number.
        idle_s: a worker without work is kept so long while there are more than the minimum.
        connect_timeout_s: how long to wait for the scheduler.
    """

    address: str = ""
    security: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = LOCAL
    arguments: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    minimum: int = 0
    maximum: int | None = None
    idle_s: float = 60.0
    connect_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        """Check that what is said fits together."""
        if self.address and (self.arguments or self.workers is not None or self.maximum is not None or self.minimum):
            raise ConfigurationError(
                f"the Dask scheduler at {self.address} has its own workers: leave out arguments, workers, minimum and "
                "maximum, or leave out the address to have a cluster made"
            )
        if self.address and self.cluster != LOCAL:
            raise ConfigurationError(
                f"the Dask scheduler at {self.address} is there: leave out `cluster`, or the address"
            )
        if self.maximum is not None and self.workers is not None:
            raise ConfigurationError("a Dask cluster has either `workers`, or a `minimum` and `maximum` of them")
        if self.minimum and (self.maximum is None or self.maximum < self.minimum):
            raise ConfigurationError(f"a Dask cluster with minimum={self.minimum} needs a maximum of at least that")

    @property
    def is_adaptive(self) -> bool:
        """Whether the cluster is made here and grows with the work."""
        return not self.address and self.maximum is not None

    @property
    def where(self) -> str:
        """The scheduler, for messages."""
        return self.address or f"a {self.cluster.rpartition('.')[2]}"

    @property
    def threads_each(self) -> int:
        """How many threads a worker is to have, as far as the arguments say."""
        told = self.arguments.get("threads_per_worker") or self.arguments.get("cores") or 1
        return int(told) if isinstance(told, int | float) and 1 <= told < math.inf else 1

    @property
    def most_workers(self) -> int:
        """How many workers there will be at most, as far as it is said; at least one."""
        told = self.maximum or self.workers or self.arguments.get("n_workers") or 1
        return told if isinstance(told, int) else 1

    def known_capacity(self) -> Capacity | None:
        """Return what all workers hold at once, None where only the cluster knows."""
        each, workers = self.known_worker(), self.maximum or self.workers or self._given("n_workers")
        if each is None or workers is None:
            return None
        return Capacity(workers * each.cpus, workers * each.memory_bytes, int(workers * each.cpus), workers * each.gpus)

    def known_worker(self) -> Capacity | None:
        """Return what one worker has, which is the most that a step can be given; None where only the cluster knows."""
        threads = self._given("threads_per_worker")
        if self.address or self.cluster not in _LOCALS or threads is None:
            return None
        limit = self.arguments.get("memory_limit")
        memory = limit if isinstance(limit, int) else (bytes_in(limit) or 0) if isinstance(limit, str) else 0
        resources = self.arguments.get("resources")
        gpus = resources.get("GPU", 0) if isinstance(resources, Mapping) else 0
        return Capacity(float(threads), memory, threads, gpus)

    def _given(self, argument: str) -> int | None:
        """Return an argument that is a number from 1 upwards."""
        given = self.arguments.get(argument)
        return given if isinstance(given, int) and given >= 1 else None
