"""Dask clusters that are made here, of any of Dask's cluster classes."""

from __future__ import annotations

import importlib
import inspect
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import TargetError

if TYPE_CHECKING:
    from distributed.security import Security

    from mlflow_pipes.targets.dask.plan import ClusterPlan

# A dying worker's task must not be repeated: attempts are ours to count. A LocalCluster gives a worker up for good that
# its nanny does not replace within lost-worker-timeout.
CONFIGURATION = {"distributed.scheduler.allowed-failures": 0, "distributed.deploy.lost-worker-timeout": "1 hour"}
"""Of Dask, while a cluster is made and for as long as it lives."""

_ADAPT_EVERY_S = 1.0


def make_cluster(plan: ClusterPlan, security: Security | None) -> Any:
    """Return a new cluster; whoever asks for it closes it.

    Raises:
        TargetError: there is no such class.
        Exception: what its class raises.
    """
    module, _, name = plan.cluster.rpartition(".")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TargetError(
            f"there is no Dask cluster class {plan.cluster} ({error}): install its package, or correct `cluster`"
        ) from error
    takes_workers = "n_workers" in inspect.signature(make).parameters
    with _interrupts_kept_from_workers():
        cluster = make(**_arguments(make, plan, security, takes_workers=takes_workers))
    try:
        if plan.maximum is not None:
            cluster.adapt(
                minimum=plan.minimum,
                maximum=plan.maximum,
                interval=f"{_ADAPT_EVERY_S}s",
                wait_count=max(1, round(plan.idle_s / _ADAPT_EVERY_S)),
            )
        elif plan.workers is not None and not takes_workers:
            cluster.scale(plan.workers)
    except BaseException:
        cluster.close()
        raise
    return cluster


@contextmanager
def _interrupts_kept_from_workers() -> Iterator[None]:
    """Block SIGINT for what is started: it is inherited, by threads and by processes that these start later.

    A terminal's Ctrl-C reaches all processes that were started from it, and a worker is not ready for it before it has
    called ``preload``. Here, the main thread hears it as before.
    """
    resource_tracker.ensure_running()  # with the first process that is spawned, it would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _arguments(make: Any, plan: ClusterPlan, security: Security | None, *, takes_workers: bool) -> dict[str, Any]:
    given = dict(plan.arguments)
    first = plan.workers if plan.workers is not None else plan.minimum if plan.maximum is not None else None
    if first is not None and takes_workers:
        given.setdefault("n_workers", first)
    if security is not None:
        given.setdefault("security", security)
    if isinstance(make, type) and issubclass(make, importlib.import_module("distributed").LocalCluster):
        given.setdefault("preload", "mlflow_pipes.targets.dask.preload")
        given.setdefault("silence_logs", logging.CRITICAL)  # what ends badly is told by our own words
        given.setdefault("dashboard_address", ":0")  # a free port: None means 8787, and a warning where it is taken
    return given
