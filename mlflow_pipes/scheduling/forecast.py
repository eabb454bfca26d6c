"""When each step of a graph would run on targets of given sizes: the real state machine, by a virtual clock. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.tokens import Amounts
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.critical_path import Link, Timed, critical_path
from mlflow_pipes.scheduling.messages import (
    AskTokens,
    Command,
    Granted,
    Known,
    LookUpNode,
    Refused,
    ReturnTokens,
    Started,
    Submit,
    Succeeded,
    ToDo,
)
from mlflow_pipes.scheduling.policy import critical_path_s, run_default_estimate_s
from mlflow_pipes.scheduling.resources import TOLERANCE, asked, owned
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.scheduling.tokens import Supply
from mlflow_pipes.scheduling.virtual_time import VirtualTime

NO_TOKENS: Amounts = {}


@dataclass(frozen=True, slots=True)
class TargetUse:
    """How a target would be used.

    Attributes:
        steps: how many run on it.
        work_s: the time that these would take one after the other.
        least_s: the shortest time in which it can do them, however they are ordered: their demand of workers, cpus,
            memory or graphics processors divided by what it has, whichever is scarcest.
        utilisation: share of that scarcest thing which is in use, from 0 to 1, from the run's beginning to its end.
    """

    target: str
    capacity: Capacity
    steps: int
    work_s: float
    least_s: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each step would run, in seconds from the run's beginning.

    Attributes:
        steps: in the order in which they would end; those reused take no time.
        makespan_s: length of the run.
        path: its critical path.
        longest_path_s: the longest chain of steps that need each other: no machine is faster.
        work_bound_s: what the busiest target needs at least for its work: no order is faster.
        targets: how each is used, by name.
    """

    steps: tuple[Timed, ...]
    makespan_s: float
    path: tuple[Link, ...]
    longest_path_s: float
    work_bound_s: float
    targets: tuple[TargetUse, ...]


def schedule(
    graph: Graph,
    *,
    capacities: Mapping[str, Capacity],
    target_of: Mapping[str, str],
    durations: Mapping[str, float],
    estimates: Mapping[str, float] | None = None,
    known: Collection[str] = (),
    tokens: Amounts = NO_TOKENS,
) -> Schedule:
    """Return when each step would run if nothing failed and every step took as long as told.

    Decisions take no time, neither do look-ups and the start of workers. The graph's timeout is not applied.

    Args:
        graph: what would run.
        capacities: what each target holds, by name.
        target_of: name of each node's target.
        durations: seconds of each node that is not reused.
        estimates: what the scheduler would believe when it chooses what goes first; by default *durations*.
        known: nodes whose outputs would be reused.
        tokens: how many there are of each token; no other run holds any.

    Raises:
        ConfigurationError: a step asks for more than its target has, or than there are tokens.

    Cost: as a run's scheduling, O(nodes · log nodes + edges).
    """
    known = frozenset(known)
    takes = {node: 0.0 if node in known else durations[node] for node in graph.nodes}
    believed = takes if estimates is None else estimates
    children = _children(graph)
    ranks = critical_path_s(list(graph.nodes), children, believed, run_default_estimate_s(believed))
    state = RunState(replace(graph, timeout_s=None), capacities, target_of, ranks, lambda: 0.5, Supply(tokens))
    steps = _Pump(state, takes, known, tokens).run()
    makespan = max((step.end for step in steps), default=0.0)
    targets = tuple(
        _use(graph, name, capacity, [step for step in steps if step.target == name], makespan)
        for name, capacity in capacities.items()
    )
    return Schedule(
        steps=tuple(steps),
        makespan_s=makespan,
        path=critical_path(steps, 0.0),
        longest_path_s=max(critical_path_s(list(graph.nodes), children, takes, 0.0).values(), default=0.0),
        work_bound_s=max((target.least_s for target in targets), default=0.0),
        targets=targets,
    )


class _Pump:
    """Answers the state machine's commands as a faultless world would."""

    def __init__(self, state: RunState, takes: Mapping[str, float], known: frozenset[str], tokens: Amounts) -> None:
        self._free = dict(tokens)
        self._held: dict[str, Amounts] = {}
        self._nodes = state.graph.nodes
        self._takes = takes
        self._known = known
        self._steps: list[Timed] = []
        self._time = VirtualTime(state, self._perform)

    def run(self) -> list[Timed]:
        """Return the steps in the order in which they end."""
        self._time.run()
        return sorted(self._steps, key=lambda step: step.end)

    def _perform(self, commands: Sequence[Command]) -> None:
        now = self._time.now
        for command in commands:
            match command:
                case LookUpNode(node) if node in self._known:
                    self._steps.append(Timed(node, self._parents(node), "", now, now))
                    self._time.send(now, Known(node))
                case LookUpNode(node):
                    self._time.send(now, ToDo(node))
                case AskTokens(node, amounts):
                    if all(amount <= self._free[token] + TOLERANCE for token, amount in amounts.items()):
                        self._hold(node, amounts, 1)
                        self._time.send(now, Granted(node))
                    else:
                        self._time.send(now, Refused(node))
                case ReturnTokens(node) if node in self._held:
                    self._hold(node, self._held.pop(node), -1)
                case Submit(node, number, target):
                    end = now + self._takes[node]
                    self._steps.append(Timed(node, self._parents(node), target, now, end))
                    self._time.send(now, Started(node, number))
                    self._time.send(end, Succeeded(node, number))
                case _:
                    pass  # nothing is recorded, and nothing is claimed or cancelled

    def _hold(self, node: str, amounts: Amounts, times: int) -> None:
        for token, amount in amounts.items():
            self._free[token] -= times * amount
        if times > 0:
            self._held[node] = amounts

    def _parents(self, node: str) -> tuple[str, ...]:
        return tuple(sorted(self._nodes[node].parents))


def _children(graph: Graph) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        for parent in node.parents:
            children.setdefault(parent, []).append(node.id)
    return children


def _use(graph: Graph, name: str, capacity: Capacity, steps: Sequence[Timed], makespan_s: float) -> TargetUse:
    """Return how a target is used: of workers and resources, the one that is scarcest tells."""
    work = 0.0
    needed = [0.0] * len(owned(capacity))
    for step in steps:
        took = step.end - step.start
        work += took
        amounts = asked(graph.nodes[step.node].options)
        needed = [sum_ + took * amount for sum_, amount in zip(needed, amounts, strict=True)]
    least = max(work / capacity.slots, *(one / all_ for one, all_ in zip(needed, owned(capacity), strict=True) if all_))
    return TargetUse(name, capacity, len(steps), work, least, least / makespan_s if makespan_s else 0.0)
