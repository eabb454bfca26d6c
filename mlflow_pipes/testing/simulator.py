"""Drives the real state machine with a virtual clock and seeded faults; no worker, store or database is needed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.graph import Graph, Output, StepNode
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction, StepDefinition, StepOptions
from mlflow_pipes.scheduling.messages import (
    CancelAttempt,
    CancelRequested,
    Changed,
    Command,
    Event,
    Failed,
    Finish,
    HeldElsewhere,
    Known,
    LookUpNode,
    Release,
    Started,
    Submit,
    Succeeded,
    ToDo,
)
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.scheduling.virtual_time import VirtualTime


def trivial_graph(
    edges: Mapping[str, Iterable[str]],
    *,
    options: Mapping[str, StepOptions] | None = None,
    fail_fast: bool = True,
    timeout_s: float | None = None,
    groups: Mapping[str, str] | None = None,
) -> Graph:
    """Return a graph of steps that stand for nothing, from each node's parents; parents must come first."""
    step = StepDefinition("step", CodeFingerprint("0" * 64), PickledFunction("step", b""))
    nodes = {
        node: StepNode(
            id=node,
            step=step,
            arguments={f"p{i}": Output(parent) for i, parent in enumerate(parents)},
            options=(options or {}).get(node, StepOptions()),
            group=(groups or {}).get(node),
        )
        for node, parents in edges.items()
    }
    return Graph("simulated", nodes, fail_fast=fail_fast, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong, as probabilities, and when somebody cancels.

    Attributes:
        fail: an attempt raises.
        lost: its worker dies.
        hit: the cache knows the output.
        held: another run holds the key.
        duplicate: an answer comes twice.
        late: an answer comes again much later.
        lost_input: an attempt finds the outputs of its parents gone.
        cancel_at: virtual second at which the run is cancelled.
    """

    fail: float = 0.0
    lost: float = 0.0
    hit: float = 0.0
    held: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    lost_input: float = 0.0
    cancel_at: float | None = None


@dataclass(slots=True)
class Trace:
    """What happened in a simulated run.

    Attributes:
        spans: (node, attempt, start, end) of every attempt, in virtual seconds.
        status: last recorded status of each node and group.
        ends: how many times each node was recorded as ended well, besides remakes of lost outputs.
        claims: nodes whose key is still claimed; empty after a good run.
        finished: how the run ended, None when it hung.
        broken: invariants that did not hold, as sentences.
    """

    spans: list[tuple[str, int, float, float]] = field(default_factory=list)
    status: dict[str, Status] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    finished: Status | None = None
    broken: list[str] = field(default_factory=list)
    makespan_s: float = 0.0


class Simulation:
    """One simulated run; same seed, same trace."""

    def __init__(
        self,
        graph: Graph,
        *,
        capacity: Capacity,
        duration_s: Callable[[str], float],
        faults: Faults = Faults(),
        seed: int = 0,
    ) -> None:
        self._graph = graph
        self._duration_s = duration_s
        self._faults = faults
        self._random = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._running: dict[str, tuple[int, float]] = {}
        self._capacity = capacity
        self._cancelled = False
        self.trace = Trace()
        target_of = dict.fromkeys(graph.nodes, "local")
        self._state = RunState(graph, {"local": capacity}, target_of, {}, self._random.random)
        self._time = VirtualTime(self._state, self._perform, self._note)

    def run(self, events_at_most: int = 1_000_000) -> Trace:
        """Run to the end, or until nothing more can happen."""
        if self._faults.cancel_at is not None:
            self._time.send(self._faults.cancel_at, CancelRequested())
        self._time.run(events_at_most)
        self.trace.makespan_s = self._time.now
        for event in self._time.undelivered():
            if isinstance(event, ToDo):  # an answer of the cache that comes after the end
                self._perform(self._state.handle(event, self._time.now))
        return self.trace

    def _note(self, event: Event) -> None:
        if isinstance(event, CancelRequested):
            self._cancelled = True
        if isinstance(event, (Succeeded, Failed)) and self._running.get(event.node, (0, 0.0))[0] == event.number:
            _, start = self._running.pop(event.node)
            self.trace.spans.append((event.node, event.number, start, self._time.now))
            if isinstance(event, Succeeded):
                self.trace.claims.discard(event.node)

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case LookUpNode():
                    self._look_up(command)
                case Submit():
                    self._submit(command)
                case CancelAttempt():
                    failure = Failure(FailureKind.CANCELLED, "cancelled")
                    self._time.send(self._time.now + 0.01, Failed(command.node, command.number, failure))
                case Release():
                    self.trace.claims.discard(command.node)
                case Changed():
                    self.trace.status[command.node] = command.status
                    if command.status.good:
                        self.trace.ends[command.node] = self.trace.ends.get(command.node, 0) + 1
                case Finish():
                    if self.trace.finished is not None:
                        self.trace.broken.append("the run finished twice")
                    self.trace.finished = command.status

    def _look_up(self, command: LookUpNode) -> None:
        self._check_parents(command.node)
        chance = self._random.random()
        if not command.forget and chance < self._faults.hit:
            self._time.send(self._time.now, Known(command.node))
        elif chance < self._faults.hit + self._faults.held:
            self._time.send(self._time.now, HeldElsewhere(command.node))
        else:
            self.trace.claims.add(command.node)
            self._time.send(self._time.now, ToDo(command.node))

    def _submit(self, command: Submit) -> None:
        if self._cancelled:
            self.trace.broken.append(f"{command.node} started after cancel")
        self._check_parents(command.node)
        node, number = command.node, command.number
        self._running[node] = (number, self._time.now)
        used = sum(self._graph.nodes[name].options.cpus for name in self._running)
        if used > self._capacity.cpus + 1e-9 or len(self._running) > self._capacity.slots:
            self.trace.broken.append(f"the target was overfull when {node} started")
        self._time.send(self._time.now, Started(node, number))
        end = self._time.now + self._duration_s(node)
        answer = self._answer(node, number)
        self._time.send(end, answer)
        if self._random.random() < self._faults.duplicate:
            self._time.send(end, answer)
        if self._random.random() < self._faults.late:
            self._time.send(end + 100.0 * self._random.random(), answer)

    def _answer(self, node: str, number: int) -> Event:
        chance, faults = self._random.random(), self._faults
        if chance < faults.fail:
            return Failed(node, number, Failure(FailureKind.EXCEPTION, "boom", ("ValueError", "Exception")))
        if chance < faults.fail + faults.lost:
            return Failed(node, number, Failure(FailureKind.LOST, "worker died"))
        if chance < faults.fail + faults.lost + faults.lost_input:
            parents = tuple(sorted(self._graph.nodes[node].parents()))
            return Failed(node, number, Failure(FailureKind.INPUT, "input gone"), parents)
        return Succeeded(node, number)

    def _check_parents(self, node: str) -> None:
        for parent in self._graph.nodes[node].parents():
            if parent not in self.trace.ends:
                self.trace.broken.append(f"{node} went on before its parent {parent}")
