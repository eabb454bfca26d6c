"""A connection to a Dask scheduler: somebody else's by address, or that of a cluster made for the run."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack, suppress
from typing import Any

import dask
from distributed import Client
from distributed.security import Security

from mlflow_pipes.errors import TargetError
from mlflow_pipes.model.attempt import AttemptId
from mlflow_pipes.targets.dask import on_worker
from mlflow_pipes.targets.dask.addresses import refusal
from mlflow_pipes.targets.dask.clusters import CONFIGURATION, make_cluster
from mlflow_pipes.targets.dask.members import Member, Wanted, members_of
from mlflow_pipes.targets.dask.plan import ClusterPlan

_TRY_S, _TRY_EVERY_S = 2.0, 0.2
_LOOK_EVERY_S = 0.1  # for whether the scheduler is gone while it is asked
_clients_log = logging.getLogger("distributed.client")


class Connection:
    """A client of a scheduler, and the cluster if it is ours.

    Args:
        plan: which.
        on_events: takes (address of the worker, encoded events), from the client's thread.
        on_lost: takes the address of a worker that is gone, from the client's thread.
        is_wanted: tells whether to go on with trying to reach the scheduler.

    Attributes:
        topic: what our workers' events are logged under.

    Raises:
        TargetError: the scheduler cannot be reached, or the cluster not be made.
    """

    def __init__(
        self,
        plan: ClusterPlan,
        on_events: Callable[[str, bytes], None],
        on_lost: Callable[[str], None],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.topic = f"mlflow_pipes-{uuid.uuid4().hex}"
        self._plan = plan
        self._on_events = on_events
        self._on_lost = on_lost
        self._is_wanted = is_wanted
        self._stack = ExitStack()
        self._cluster: Any = None
        self._members: dict[str, Member] = {}
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

    def members(self) -> dict[str, Member]:
        """Return the workers that are there now; those that were last seen when the scheduler is gone.

        The client's own ``scheduler_info()`` tries for half a minute to reach one that is gone.
        """
        asks = inspect.signature(self.client.scheduler_info).parameters
        question = self.client.scheduler.identity(**({"n_workers": -1} if "n_workers" in asks else {}))
        asked = asyncio.run_coroutine_threadsafe(question, self.client.loop.asyncio_loop)
        while not wait([asked], _LOOK_EVERY_S).done:
            if self.is_lost:
                asked.cancel()
                return self._members
        with suppress(OSError):  # the client notices as well, and is_lost tells
            self._members = members_of(asked.result())
        return self._members

    def send(self, place: Wanted, setup: bytes, bundles: Mapping[str, Sequence[bytes]]) -> list[Any]:
        """Have workers take bundles of messages to stations, by the keys of their tasks; returns a future for each.

        All that go to one place at once, because a call costs much more than a task.
        """
        where: dict[str, Any] = {"workers": list(place.workers), "allow_other_workers": place.others_too}
        calls = [_Call(on_worker.work, self.topic, setup, list(messages)) for messages in bundles.values()]
        futures: list[Any] = self.client.map(
            pickle.loads,  # what every scheduler has: our own code is reached on the worker only, inside the bytes
            [pickle.dumps(call, 5) for call in calls],
            key=list(bundles),
            pure=False,
            retries=0,
            resources=dict(place.resources) or None,
            **(where if place.workers else {}),
        )
        return futures

    def forget(self, futures: Sequence[Any]) -> None:
        """Have Dask not begin tasks that it has not begun."""
        self.client.cancel(list(futures), force=True)

    def stop(self, setup: bytes, attempts: Sequence[AttemptId]) -> set[AttemptId]:
        """Have all workers stop attempts; return those that were under way, which are answered. Waits for all."""
        told = self.client.run(on_worker.stop, self.topic, setup, list(attempts), on_error="ignore")
        return {AttemptId(*attempt) for of_worker in told.values() for attempt in of_worker}

    def leave(self) -> None:
        """Have all workers end their stations, and the scheduler forget what they told. Waits for all."""
        self.client.run(on_worker.leave, self.topic, on_error="ignore")
        self.client.run_on_scheduler(_forget_topic, self.topic)

    def close(self) -> None:
        """Disconnect, and end the cluster if it is ours."""
        if not self.is_lost:
            for topic in (self.topic, "all"):  # else the scheduler complains that it cannot tell us of our end
                self.client.unsubscribe_topic(topic)
        self._stack.close()

    def _connected(self) -> Any:
        plan = self._plan
        try:
            security = Security(**plan.security) if plan.security else None
            self._stack.enter_context(dask.config.set({} if plan.address else CONFIGURATION))
            if plan.address:
                self._wait_for_listener()
            else:
                self._cluster = make_cluster(plan, security)
                self._stack.callback(self._close_quietly, self._cluster)
            _clients_log.addFilter(self._is_worth_telling)  # until the client is closed
            self._stack.callback(_clients_log.removeFilter, self._is_worth_telling)
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
            guard = (
                " A script calls run below `if __name__ == '__main__':`, because the workers import it."
                if not plan.address and isinstance(error, RuntimeError)
                else ""
            )
            raise TargetError(f"cannot {what}: {type(error).__name__}: {error}{guard}") from error
        self._stack.callback(self._close_quietly, client)
        return client

    def _wait_for_listener(self) -> None:
        """Wait until somebody listens at the address: the client's own waiting cannot be broken off."""
        address, end = self._plan.address, time.monotonic() + self._plan.connect_timeout_s
        while why := refusal(address, max(0.1, min(_TRY_S, end - time.monotonic()))):
            if time.monotonic() > end or not self._is_wanted():
                what = f"cannot connect to the Dask scheduler at {address}: {why}"
                raise TargetError(f"{what}: start it, or correct `address`")
            time.sleep(_TRY_EVERY_S)

    def _is_worth_telling(self, _: logging.LogRecord) -> bool:
        """Tell whether the client's log is: that the scheduler is gone, with tracebacks, we say in our own words."""
        return not (hasattr(self, "client") and self.is_lost)

    def _close_quietly(self, what: Any) -> None:
        with suppress(Exception):  # the other end may be gone
            what.close(timeout=10)

    def _take(self, event: tuple[float, Any]) -> None:
        self._on_events(event[1]["worker"], event[1]["events"])

    def _take_news(self, event: tuple[float, Any]) -> None:
        news = event[1]
        if isinstance(news, dict) and news.get("action") == "remove-worker" and "worker" in news:
            self._on_lost(news["worker"])


def _forget_topic(topic: str, dask_scheduler: Any = None) -> None:
    """Drop the events of a topic, which a scheduler keeps for as long as it lives."""
    dask_scheduler._broker._topics.pop(topic, None)  # noqa: SLF001 - there is no public way (distributed 2026.8)


_forget_topic.__module__ = "__main__"  # so that it is sent by value: a scheduler may not have us


class _Call:
    """A call that is made by unpickling it: where it is unpickled, and nowhere before."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call
