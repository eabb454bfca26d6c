"""The loop of one run: waits, hears, has the conductor do what follows, commits."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from mlflow_pipes.engine.assignments import Assignments
from mlflow_pipes.engine.conductor import Conductor
from mlflow_pipes.engine.effects import Effects
from mlflow_pipes.engine.growing import Growing, InEnvironmentsOf
from mlflow_pipes.engine.inbox import Inbox
from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.observers import Observers
from mlflow_pipes.engine.recorder import COMMIT_WITHIN_S, Recorder, RunLog
from mlflow_pipes.engine.roster import Roster
from mlflow_pipes.engine.run_targets import RunTargets
from mlflow_pipes.errors import PipesError, WorldError
from mlflow_pipes.model.attempt import (
    TargetEvent,
)
from mlflow_pipes.model.graph import Graph, Growth, StepNode
from mlflow_pipes.model.resumption import UNKNOWN_EFFECT, Resumption
from mlflow_pipes.model.run import (
    RunEnded,
    RunStarted,
    Status,
)
from mlflow_pipes.ports import Clock, ComputeTarget, Ledger, RunObserver
from mlflow_pipes.scheduling import messages
from mlflow_pipes.scheduling.routing import Routing
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.scheduling.tokens import NOTHING_SHARED, Supply

HEARTBEAT_EVERY_S = 1.0
CANCELLED_ELSEWHERE = "cancelled from another process"


def _as_it_is(growth: Growth, _: StepNode) -> Growth:
    return growth


class Engine:
    """Runs one graph to its end, in the calling thread.

    Args:
        graph: what to run.
        started: the run's first record.
        ledger: where history and step cache are.
        inputs: constants of the graph, already prepared.
        targets: started compute targets by name; the caller closes them.
        routing: says which target each step goes to.
        observers: see records and events as they happen.
        log: keeps what steps print.
        clock: gives the time.
        new_ids: ids of 32 hex digits for the runs of steps, without end.
        chance: gives numbers in [0, 1).
        environ: environment variables for every attempt.
        supply: tokens, and shared targets: what all runs of the workspace share.
        open_target: makes and starts a target that only calls returned by a step ask for; the caller closes it.
        inbox: where targets that were started before report to; the engine closes it when the run is over.
        resumption: what the run takes over from those that it resumes.
        in_environments: puts the calls that a node returned into their environments.

    Raises:
        ConfigurationError: a step names a target or a token that is not there, or asks for more than there is.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        started: RunStarted,
        ledger: Ledger,
        inputs: Inputs,
        targets: Mapping[str, ComputeTarget],
        routing: Routing,
        observers: Sequence[RunObserver] = (),
        log: RunLog | None = None,
        clock: Clock,
        new_ids: Iterator[str],
        chance: Callable[[], float] = random.random,
        environ: Mapping[str, str] | None = None,
        supply: Supply = NOTHING_SHARED,
        open_target: Callable[[str], ComputeTarget] | None = None,
        inbox: Inbox | None = None,
        resumption: Resumption | None = None,
        in_environments: InEnvironmentsOf | None = None,
    ) -> None:
        self._graph = graph
        self._started = started
        self._ledger = ledger
        self._targets = RunTargets(targets, open_target)
        self._clock = clock
        roster = Roster(self._targets, routing, ledger.estimates(graph.name), new_ids)
        roster.add(graph.groups, graph.nodes)
        recorder = Recorder(
            started.run_id, graph.name, roster.step_run_ids, roster.named_by, ledger, log, Observers(observers)
        )
        ranks = roster.ranks(graph.nodes)
        self._state = RunState(graph, self._targets.capacities(), roster.target_of, ranks, chance, supply)
        self._recorder = recorder
        self._inbox = inbox or Inbox()
        self._conductor = Conductor(
            graph,
            started,
            self._state,
            roster,
            inputs,
            self._targets,
            recorder,
            Assignments(started, roster.step_run_ids, environ or {}),
            Effects(resumption),
            Growing(roster, inputs, recorder, in_environments or _as_it_is),
            self._inbox,
            clock,
        )
        self._cancelled_steps: set[str] = set()
        self._cancel_reason: str | None = None
        self._next_heartbeat = 0.0

    # --- for others ---------------------------------------------------------------------------------------------

    def report(self, event: TargetEvent) -> None:
        """Take an event from a target; from any thread."""
        self._inbox.put(event)

    def cancel(self, reason: str) -> None:
        """Ask the run to stop; from any thread or signal handler. Returns at once."""
        self._cancel_reason = self._cancel_reason or reason
        self._inbox.wake()

    def run(self) -> Status:
        """Run the graph to its end and return how it ended."""
        now = self._clock.now()
        self._recorder.add(self._started, now)
        self._recorder.declare(self._graph.groups, self._graph.nodes, now)
        self._next_heartbeat = self._clock.monotonic() + HEARTBEAT_EVERY_S
        try:
            self._recorder.exchange([], now)  # the run is there for others to see before anything runs
            self._conductor.begin(now)
            while not self._state.finished:
                self._turn()
            self._recorder.exchange([], self._clock.now())
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            self._inbox.close()
        return self._conductor.status

    def _break_off(self, error: BaseException) -> None:
        """Record as much as can be that the run is over, so that its claims do not outlive it in a living process."""
        now = self._clock.now()
        status = Status.CANCELLED if isinstance(error, KeyboardInterrupt) else Status.FAILED
        told = str(error) if isinstance(error, PipesError) else repr(error)
        message = "interrupted at once" if status is Status.CANCELLED else f"the orchestrator failed: {told}"
        self._conductor.break_off(message, UNKNOWN_EFFECT, now)
        self._recorder.add(RunEnded(self._started.run_id, status, now, None, message), now)
        with contextlib.suppress(WorldError):
            self._recorder.exchange([], now)

    # --- one turn -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._inbox.wait(self._sleep_s(), [fileno for target in self._targets.polled for fileno in target.filenos()])
        for target in self._targets.polled:
            target.poll()
        now = self._clock.now()
        if self._cancel_reason is not None:
            reason, self._cancel_reason = self._cancel_reason, None
            self._conductor.tell(messages.CancelRequested(reason), now)
        for event in self._inbox.take_all():
            self._conductor.take(event, now)
        wake = self._state.next_wake()
        if wake is not None and wake <= self._clock.monotonic():
            self._conductor.tell(messages.TimePassed(), now)
        self._conductor.settle(now)
        due = self._recorder.due()
        if due is not None and not now < due <= now + COMMIT_WITHIN_S:  # later than that: the clock was put back
            self._recorder.exchange([], now)
        if self._clock.monotonic() >= self._next_heartbeat:
            self._heartbeat(now)

    def _sleep_s(self) -> float:
        """Return how long nothing has to be done; by the clock that nobody sets, but for what waits to be committed."""
        times = [
            self._next_heartbeat,
            self._state.next_wake(),
            *(target.next_deadline() for target in self._targets.polled),
        ]
        sleep = min(time for time in times if time is not None) - self._clock.monotonic()
        due = self._recorder.due()
        if due is not None:
            sleep = min(sleep, due - self._clock.now(), COMMIT_WITHIN_S)
        return max(0.0, sleep)

    def _heartbeat(self, now: float) -> None:
        self._next_heartbeat = self._clock.monotonic() + HEARTBEAT_EVERY_S
        self._recorder.late_progress(now)
        heard = self._ledger.heartbeat(self._started.run_id, now)
        if heard.cancel_requested:
            self._conductor.tell(messages.CancelRequested(heard.reason or CANCELLED_ELSEWHERE), now)
        for request in heard.cancel_steps:
            if request.node not in self._cancelled_steps:
                self._cancelled_steps.add(request.node)
                self._conductor.tell(messages.CancelRequested(request.reason or CANCELLED_ELSEWHERE, request.node), now)
        self._conductor.claims_lost(heard.lost_tokens, now)
