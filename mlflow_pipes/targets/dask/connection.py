"""A connection to a Dask scheduler: somebody else's by address, or that of a cluster made for the run."""

from __future__ import annotations

import importlib
import inspect
import math
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import dask
from distributed import Client
from distributed.security import Security

from mlflow_pipes.errors import ConfigurationError, TargetError
from mlflow_pipes.targets.dask.members import Member, members_of

# Of clusters that we make. A dying worker's task must not be repeated: attempts are ours to count. A LocalCluster gives
# a worker up for good that its nanny does not replace within lost-worker-timeout.
_OURS = {"distributed.scheduler.allowed-failures": 0, "distributed.deploy.lost-worker-timeout": "1 hour"}
_ADAPT_EVERY_S = 1.0


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
    cluster: str = "distributed.LocalCluster"
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
        if self.maximum is not None and self.workers is not None:
            raise ConfigurationError(
                "a Dask cluster has either so many `workers`, or a `minimum` and `maximum` of them"
            )
        if self.minimum and (self.maximum is None or self.maximum < self.minimum):
            raise ConfigurationError(f"a Dask cluster with minimum={self.minimum} needs a maximum of at least that")


class Connection:
    """A client of a scheduler, and the cluster if it is ours.

    Args:
        plan: which.
        on_events: takes (address of the worker, encoded events), from the client's thread.
        on_lost: takes the address of a worker that is gone, from the client's thread.

    Attributes:
        topic: what our workers' events are logged under.

    Raises:
        TargetError: the scheduler cannot be reached, or the cluster not be made.
    """

    def __init__(
        self, plan: ClusterPlan, on_events: Callable[[str, bytes], None], on_lost: Callable[[str], None]
    ) -> None:
        self.topic = f"mlflow_pipes-{uuid.uuid4().hex}"
        self._plan = plan
        self._on_events = on_events
        self._on_lost = on_lost
        self._stack = ExitStack()
        self._cluster: Any = None
        try:
            self.client = self._connected()
            self.client.subscribe_topic(self.topic, self._take)
            self.client.subscribe_topic("all", self._take_news)
        except BaseException:
            self._stack.close()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler went away. It does not come back: tasks that it had are forgotten, also by it."""
        return bool(self.client.status != "running")

    @property
    def is_adaptive(self) -> bool:
        """Whether the cluster is ours and grows with the work."""
        return not self._plan.address and self._plan.maximum is not None

    @property
    def where(self) -> str:
        """The scheduler, for messages."""
        return self._plan.address or f"a {self._plan.cluster.rpartition('.')[2]}"

    def members(self) -> dict[str, Member]:
        """Return the workers that are there now. Raises what a lost connection raises."""
        asks = inspect.signature(self.client.scheduler_info).parameters
        return members_of(self.client.scheduler_info(**({"n_workers": -1} if "n_workers" in asks else {})))

    def most_threads(self, members: Mapping[str, Member]) -> int:
        """Return how many threads there are, or may be when the cluster has grown."""
        threads = sum(member.threads for member in members.values())
        if self.is_adaptive:
            assert self._plan.maximum is not None
            each = max((member.threads for member in members.values()), default=self._threads_told())
            return max(threads, each * self._plan.maximum)
        return threads

    def close(self) -> None:
        """Disconnect, and end the cluster if it is ours."""
        if not self.is_lost:
            for topic in (self.topic, "all"):  # else the scheduler complains that it cannot tell us of our end
                self.client.unsubscribe_topic(topic)
        self._stack.close()

    def _threads_told(self) -> int:
        told = self._plan.arguments.get("threads_per_worker") or self._plan.arguments.get("cores") or 1
        return int(told) if isinstance(told, int | float) and told < math.inf else 1

    def _connected(self) -> Any:
        plan = self._plan
        security = Security(**plan.security) if plan.security else None
        try:
            self._stack.enter_context(dask.config.set({} if plan.address else _OURS))
            if not plan.address:
                self._cluster = self._made(security)
            client = Client(
                self._cluster or plan.address,
                timeout=plan.connect_timeout_s,
                security=security,
                set_as_default=False,
            )
        except TargetError:
            raise
        except Exception as error:
            what = f"connect to the Dask scheduler at {plan.address}" if plan.address else f"make a {plan.cluster}"
            raise TargetError(f"cannot {what}: {type(error).__name__}: {error}") from error
        self._stack.callback(self._close_quietly, client)
        return client

    def _made(self, security: Security | None) -> Any:
        plan = self._plan
        module, _, name = plan.cluster.rpartition(".")
        try:
            make = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise TargetError(
                f"there is no Dask cluster class {plan.cluster} ({error}): install its package, or correct `cluster`"
            ) from error
        parameters = inspect.signature(make).parameters
        given = dict(plan.arguments)
        first = plan.workers if plan.workers is not None else plan.minimum if plan.maximum is not None else None
        if first is not None and "n_workers" in parameters:
            given.setdefault("n_workers", first)
        if security is not None:
            given.setdefault("security", security)
        if issubclass(make, importlib.import_module("distributed").LocalCluster):
            given.setdefault("dashboard_address", None)
        cluster = make(**given)
        self._stack.callback(self._close_quietly, cluster)
        if plan.maximum is not None:
            cluster.adapt(
                minimum=plan.minimum,
                maximum=plan.maximum,
                interval=f"{_ADAPT_EVERY_S}s",
                wait_count=max(1, round(plan.idle_s / _ADAPT_EVERY_S)),
            )
        elif plan.workers is not None and "n_workers" not in parameters:
            cluster.scale(plan.workers)
        return cluster

    def _close_quietly(self, what: Any) -> None:
        with suppress(Exception):  # the other end may be gone
            what.close(timeout=10)

    def _take(self, event: tuple[float, Any]) -> None:
        self._on_events(event[1]["worker"], event[1]["events"])

    def _take_news(self, event: tuple[float, Any]) -> None:
        news = event[1]
        if isinstance(news, dict) and news.get("action") == "remove-worker" and "worker" in news:
            self._on_lost(news["worker"])
