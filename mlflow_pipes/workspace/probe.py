"""``compute.test``: a probe step sent to a target through its ordinary port, and what came of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import field
from typing import Any

from mlflow_pipes import content
from mlflow_pipes.digests import digest_record
from mlflow_pipes.engine.inbox import Inbox
from mlflow_pipes.errors import PipesError, TargetError
from mlflow_pipes.model.attempt import Assignment, AttemptFailed, AttemptId, AttemptSucceeded, Capacity, Failure
from mlflow_pipes.model.step import PickledFunction
from mlflow_pipes.ports import ComputeTarget, Datastore, Polled
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.worker import probe
from mlflow_pipes.workspace.compute import started

PAYLOAD_BYTES = 1 << 16
_ROUND_TRIPS = 3  # another worker than the first may do the next one, and must be started
_OURS = "mlflow-pipes"


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How a target did with a step that looks around.

    Attributes:
        target: its name.
        problem: why no step can run there, in words; empty when one did. Then the rest holds.
        capacity: what it says it holds at once.
        start_s: until it took attempts.
        first_s: until the first step was done, with what has to be started for it.
        round_trip_s: of a step that does nothing, on a worker that is there: the quickest of several.
        python, here: version of Python there, and of this process.
        host, worker: which machine and worker did it.
        missing: packages that are installed here and not there, with our versions.
        different: packages of other versions there: (here, there).
        extra: how many packages are installed there and not here.
        datastore: a value went there and back through the datastore unharmed.
    """

    target: str
    problem: str = ""
    capacity: Capacity | None = None
    start_s: float = 0.0
    first_s: float = 0.0
    round_trip_s: float = 0.0
    python: str = ""
    here: str = ""
    host: str = ""
    worker: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    different: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    extra: int = 0
    datastore: bool = False

    @property
    def same_python(self) -> bool:
        """Whether functions and values that are pickled here can be read there: it needs the same minor version."""
        return _minor(self.python) == _minor(self.here)

    @property
    def same_pipes(self) -> bool:
        """Whether mlflow_pipes is of one version on both sides."""
        return _OURS not in self.missing and _OURS not in self.different

    @property
    def well(self) -> bool:
        """Whether steps can run there; those that need a missing package cannot."""
        return not self.problem and self.datastore and self.same_python and self.same_pipes


def probed(target: ComputeTarget, datastore: Datastore, environ: Mapping[str, str], *, timeout_s: float) -> ProbeReport:
    """Start a target, send it two steps, close it, and report. Raises nothing for what the target does wrong.

    Args:
        target: not started.
        datastore: the workspace's.
        environ: environment variables of steps.
        timeout_s: for each of the steps.
    """
    began = time.monotonic()
    try:
        with closing(Inbox()) as inbox, started([target], inbox.put):
            start_s = time.monotonic() - began
            sender = _Sender(target, datastore, environ, inbox, timeout_s)
            payload = os.urandom(PAYLOAD_BYTES)
            seen, first_s, done = sender.send(probe.look_around, payload=payload)
            round_trip_s = min(sender.send(probe.answer_at_once)[1] for _ in range(_ROUND_TRIPS))
            capacity = target.capacity()  # some know it only when something ran
    except PipesError as error:
        return ProbeReport(target.name, problem=str(error))
    except Exception as error:  # noqa: BLE001 - a target of another package may do anything
        return ProbeReport(target.name, problem=f"the target failed: {type(error).__name__}: {error}")
    here, there = probe.installed(), seen["packages"]
    return ProbeReport(
        target.name,
        capacity=capacity,
        start_s=start_s,
        first_s=first_s,
        round_trip_s=round_trip_s,
        python=seen["python"],
        here=platform.python_version(),
        host=seen["host"],
        worker=done.worker,
        missing={name: version for name, version in sorted(here.items()) if name not in there},
        different={
            name: (version, there[name])
            for name, version in sorted(here.items())
            if name in there and there[name] != version
        },
        extra=len(there.keys() - here.keys()),
        datastore=seen["payload"] == payload[::-1],
    )


class _Sender:
    """Sends one attempt at a time and waits for its answer, as the engine's loop does."""

    def __init__(
        self, target: ComputeTarget, datastore: Datastore, environ: Mapping[str, str], inbox: Inbox, timeout_s: float
    ) -> None:
        self._target = target
        self._datastore = datastore
        self._environ = environ
        self._inbox = inbox
        self._timeout_s = timeout_s
        self._run_id = os.urandom(16).hex()
        self._sent = 0

    def send(self, function: Any, **arguments: Any) -> tuple[Any, float, AttemptSucceeded]:
        """Return what a function returned there, how many seconds that took, and the answer.

        Raises:
            TargetError: it failed, or there was no answer in time.
        """
        import cloudpickle

        artifacts = {name: content.store(value, self._datastore, name=name) for name, value in arguments.items()}
        name = function.__name__
        self._sent += 1
        step_run_id = digest_record("pipes.probe/1", (self._run_id, str(self._sent)))[:32]
        assignment = Assignment(
            AttemptId(self._run_id, f"{name}[{self._sent}]", 1),
            "probe",
            PickledFunction(name, cloudpickle.dumps(function)),
            artifacts,
            environ=dict(self._environ),
            step_run_id=step_run_id,
            idempotency_key=step_run_id,
        )
        began = time.monotonic()
        self._target.submit(assignment)
        answer = self._answer(assignment.attempt, began + self._timeout_s)
        took_s = time.monotonic() - began
        return content.load(answer.output, self._datastore), took_s, answer

    def _answer(self, attempt: AttemptId, deadline: float) -> AttemptSucceeded:
        while (left := deadline - time.monotonic()) > 0:
            polled = self._target if isinstance(self._target, Polled) else None
            wake = None if polled is None else polled.next_deadline()
            wait_s = left if wake is None else max(0.0, min(left, wake - time.monotonic()))
            self._inbox.wait(wait_s, [] if polled is None else polled.filenos())
            if polled is not None:
                polled.poll()
            for event in self._inbox.take_all():
                if isinstance(event, AttemptSucceeded) and event.attempt == attempt:
                    return event
                if isinstance(event, AttemptFailed) and event.attempt == attempt:
                    raise TargetError(_told(event.failure))
        raise TargetError(f"the probe step was not done within {self._timeout_s:g} s")


def _told(failure: Failure) -> str:
    return f"the probe step failed: {failure.message}\n{failure.traceback}".strip()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
