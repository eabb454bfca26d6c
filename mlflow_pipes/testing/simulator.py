"""Drives the real state machine with a virtual clock and seeded faults; no worker, store or database is needed."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.graph import Graph, HookTime, Output, StepNode
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction, StepDefinition, StepOptions
from mlflow_pipes.scheduling.messages import (
    CancelAttempt,
    CancelRequested,
    Changed,
    Command,
    Conclude,
    Concluded,
    Event,
    Failed,
    Finish,
    Grew,
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
    tolerant: Collection[tuple[str, str]] = (),
    hooks: Mapping[str, HookTime] | None = None,
    max_parallel: int | None = None,
) -> Graph:
    """Return a graph of steps that stand for nothing, from each node's parents; parents must come first.

    *tolerant* are the edges (node, parent) by which a node accepts its parent's failure.
    """
    step = StepDefinition("step", CodeFingerprint("0" * 64), PickledFunction("step", b""))
    nodes = {
        node: StepNode(
            id=node,
            step=step,
            arguments={
                f"p{i}": Output(parent, or_failure=(node, parent) in tolerant) for i, parent in enumerate(parents)
            },
            options=(options or {}).get(node, StepOptions()),
            group=(groups or {}).get(node),
            hook=(hooks or {}).get(node),
        )
        for node, parents in edges.items()
    }
    return Graph("simulated", nodes, fail_fast=fail_fast, timeout_s=timeout_s, max_parallel=max_parallel)


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
        grow: an attempt returns calls of further steps, or the cache knows that it did.
        cancel_at: virtual second at which the run is cancelled.
        cancel_step_at: virtual second at which somebody cancels one step, with what it returned.
    """

    fail: float = 0.0
    lost: float = 0.0
    hit: float = 0.0
    held: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    lost_input: float = 0.0
    grow: float = 0.0
    cancel_at: float | None = None
    cancel_step_at: float | None = None


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
        self._nodes = dict(graph.nodes)
        self._grown: dict[str, set[str]] = {}
        self._limit = graph.max_parallel
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
        if self._faults.cancel_step_at is not None:
            chosen = self._random.choice(list(self._nodes))
            self._time.send(self._faults.cancel_step_at, CancelRequested("not wanted", chosen))
        self._time.run(events_at_most)
        self.trace.makespan_s = self._time.now
        for event in self._time.undelivered():
            if isinstance(event, ToDo):  # an answer of the cache that comes after the end
                self._perform(self._state.handle(event, self._time.now))
        return self.trace

    @property
    def outcome(self) -> Status | None:
        """How the run's steps ended, before its hooks."""
        return self._state.outcome

    def _note(self, event: Event) -> None:
        if isinstance(event, CancelRequested):
            self._cancelled = self._cancelled or event.node is None
        if isinstance(event, (Succeeded, Failed, Grew)) and self._running.get(event.node, (0, 0.0))[0] == event.number:
            _, start = self._running.pop(event.node)
            self.trace.spans.append((event.node, event.number, start, self._time.now))
            if isinstance(event, (Succeeded, Grew)):
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
                case Conclude():
                    self._conclude(command.node)
                case Release():
                    self.trace.claims.discard(command.node)
                case Changed():
                    self.trace.status[command.node] = command.status
                    if command.status.ended:
                        self._check_inside(command.node)
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
            grows = self._random.random() < self._faults.grow
            self._time.send(self._time.now, self._growth(command.node, None) if grows else Known(command.node))
        elif chance < self._faults.hit + self._faults.held:
            self._time.send(self._time.now, HeldElsewhere(command.node))
        else:
            self.trace.claims.add(command.node)
            self._time.send(self._time.now, ToDo(command.node))

    def _submit(self, command: Submit) -> None:
        if self._cancelled and not self._is_of_hook(command.node):
            self.trace.broken.append(f"{command.node} started after cancel")
        self._check_parents(command.node)
        node, number = command.node, command.number
        self._running[node] = (number, self._time.now)
        if self._limit is not None and len(self._running) > self._limit:
            self.trace.broken.append(f"more than max_parallel were under way when {node} started")
        used = sum(self._nodes[name].options.cpus for name in self._running)
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
            parents = sorted(parent for parent in self._nodes[node].parents() if parent in self.trace.ends)
            made = tuple(sorted({maker for parent in parents for maker in self._makers(parent)}))
            return Failed(node, number, Failure(FailureKind.INPUT, "input gone"), made)
        if self._random.random() < faults.grow:
            return self._growth(node, number)
        return Succeeded(node, number)

    def _growth(self, node: str, number: int | None) -> Event:
        """Return that a node returned some calls, each of which may need earlier ones."""
        deep = node.count("/")
        names = [f"{node}/{i}" for i in range(self._random.randrange(4 if deep < 3 else 1))]
        again = node in self._grown  # made again after its output was lost, or a second answer: ids are never reused
        names = [f"{name}#{len(self._nodes)}" for name in names] if again else names
        edges = {
            name: [earlier for earlier in names[:i] if self._random.random() < 0.3] for i, name in enumerate(names)
        }
        tolerant = {
            (name, parent) for name, parents in edges.items() for parent in parents if self._random.random() < 0.3
        }
        graph = trivial_graph(edges, groups=dict.fromkeys(names, node), tolerant=tolerant)
        self._nodes.update(graph.nodes)
        self._grown.setdefault(node, set()).update(names)
        return Grew(node, number, graph.nodes, {}, dict.fromkeys(names, "local"), {}, reused=number is None)

    def _makers(self, node: str) -> set[str]:
        """Return the nodes whose outputs a node's output is made of, as far as they ended well."""
        if node not in self._grown:
            return {node}
        return {maker for name in self._grown[node] if name in self.trace.ends for maker in self._makers(name)}

    def _conclude(self, node: str) -> None:
        bad = [name for name in self._grown[node] if name in self.trace.status and not self.trace.status[name].good]
        failure = Failure(FailureKind.INNER, f"its output needs {min(bad)}") if bad else None
        self._time.send(self._time.now, Concluded(node, failure))

    def _check_inside(self, node: str) -> None:
        for inner in self._grown.get(node, ()):
            if inner in self.trace.status and not self.trace.status[inner].ended:
                self.trace.broken.append(f"{node} ended before {inner}, which it returned")

    def _check_parents(self, node: str) -> None:
        mine = self._nodes[node]
        tolerated = mine.tolerated_parents()
        for parent in mine.parents():
            ended = parent in self.trace.status and self.trace.status[parent].ended
            if parent not in self.trace.ends and not (parent in tolerated and ended):
                self.trace.broken.append(f"{node} went on before its parent {parent}")
        if mine.hook is not None:
            late = [name for name in self._nodes if self._is_open(name) and not self._is_of_hook(name)]
            if late:
                self.trace.broken.append(f"the hook {node} began before {late[0]} had ended")

    def _is_of_hook(self, node: str) -> bool:
        return self._nodes[node.partition("/")[0]].hook is not None

    def _is_open(self, node: str) -> bool:
        return node in self.trace.status and not self.trace.status[node].ended
