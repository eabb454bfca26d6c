"""The laws of scheduling, as a witness who sees a run's events and commands from outside.

================  ====================================================================================================
law               what it says
================  ====================================================================================================
ends              every run ends (one that crashed is started again), and says so once
in order          a step is looked up and begun only after its parents have ended well, or badly where it accepts that;
                  it is skipped only when one that it needs ended badly
claimed first     an attempt is begun only while the run holds the step's key, as far as it has heard
single flight     no key is computed twice at once, unless a silent run's claim was taken over
computed once     no key is computed again unless its output was lost, over all runs and crashes
earned            a step ends well only by an answer that says so, and what has ended stays so unless an output was lost
cancelled         nothing begins in what was cancelled, besides a lost output that others need
in time           nothing begins in what is past its timeout
hooks             exit hooks come after everything else, once, and only those for that end
closed            sub-pipelines, and steps that returned calls, end after all that is in them, as it ended
room              no target holds more than its cpus, memory and slots
limits            no more than max_parallel attempts are under way in what has that limit
no starving       with nothing under way, something that waits for its turn has it; larger priority goes first, and is
                  passed over only so often
status            the run's status is that of its steps
gives back        no key stays claimed
raises nothing    the machine has no exception
================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_pipes.model.graph import Graph, GroupNode, StepNode
from mlflow_pipes.model.run import ENDED, GOOD, Status
from mlflow_pipes.scheduling.messages import (
    CancelRequested,
    Changed,
    Concluded,
    Event,
    Failed,
    Grew,
    Known,
    Submit,
    Succeeded,
    Unresolvable,
)
from mlflow_pipes.scheduling.placement import PASSED_OVER_AT_MOST
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.testing.scenarios import Scenario

_LATE_S = 1e-6


class Witness:
    """Sees one run from outside and notes in ``broken`` which laws did not hold.

    Attributes:
        status: last recorded status of each node and group.
        finished: how the run ended, None before.
        late: the orchestrator stood still at times, so timeouts may have come late.
    """

    def __init__(self, scenario: Scenario, graph: Graph, target_of: Mapping[str, str]) -> None:
        self.broken: list[str] = []
        self.status: dict[str, Status] = {}
        self.nodes: dict[str, StepNode] = {}
        self.groups: dict[str, GroupNode] = {}
        self.finished: Status | None = None
        self.late = False
        self.now = 0.0
        self._scenario = scenario
        self._target_of: dict[str, str] = {}
        self._parents: dict[str, frozenset[str]] = {}
        self._tolerated: dict[str, frozenset[str]] = {}
        self._inside: dict[str, list[str]] = {}
        self._around: dict[str, tuple[str, ...]] = {}
        self._good_once: set[str] = set()
        self._tolerated_by_some: set[str] = set()
        self._running: dict[str, int] = {}
        self._queued: dict[str, int] = {}
        self._retrying: set[str] = set()
        self._first_start: dict[str, float] = {}
        self._begun_at = 0.0
        self._event: Event | None = None
        self._cancelled: set[str] = set()
        self._stopped = self._hooks_begun = self._lost_something = self._timed_out = False
        limits = [group.max_parallel for group in scenario.groups]
        limits += [scenario.max_parallel, *[task.options.max_parallel for task in scenario.tasks]]
        self._limited = any(limit is not None for limit in limits)
        self._prioritised = any(task.options.priority for task in scenario.tasks)
        self._add(graph.groups, graph.nodes, target_of)

    def begun(self) -> None:
        """See that the run begins."""
        self._begun_at = self.now

    def is_good(self, node: str) -> bool:
        """Tell whether a node has ended well."""
        return self.status.get(node) in GOOD

    def was_good(self, node: str) -> bool:
        """Tell whether a node has ever ended well."""
        return node in self._good_once

    # --- events -----------------------------------------------------------------------------------------------------

    def heard(self, event: Event, now: float) -> None:
        """See an event just before the state machine does."""
        self.now = now
        self._event = event
        match event:
            case CancelRequested(_, None):
                self._stopped = self._stopped or self.finished is None
                if self._hooks_begun:
                    self._cancelled.update(name for name in self.nodes if self._is_of_hook(name))
            case CancelRequested(_, str(name)):
                if self.status.get(name) not in ENDED:
                    self._cancelled.add(name)
            case Succeeded(node, number) | Failed(node, number) | Grew(node, int(number)):
                if self._running.get(node) == number:
                    del self._running[node]
            case _:
                pass
        if isinstance(event, (Failed, Unresolvable)) and event.lost_producers:
            self._lost_something = True

    def joined(self, event: Grew, *, taken: bool) -> None:
        """See which calls a node has returned, once the state machine has taken them in (or not)."""
        if taken and event.node not in self._inside:
            self._inside[event.node] = []
            if event.nodes or event.groups:
                self._add(event.groups, event.nodes, event.target_of)
            limits = [group.max_parallel for group in event.groups.values()]
            limits += [node.options.max_parallel for node in event.nodes.values()]
            self._limited = self._limited or any(limit is not None for limit in limits)

    def _add(
        self, groups: Mapping[str, GroupNode], nodes: Mapping[str, StepNode], target_of: Mapping[str, str]
    ) -> None:
        self.groups.update(groups)
        self.nodes.update(nodes)
        self._target_of.update(target_of)
        for group in groups.values():
            self._inside.setdefault(group.id, [])
        members: list[GroupNode | StepNode] = [*groups.values(), *nodes.values()]
        for member in members:
            if member.group is not None:
                self._inside[member.group].append(member.id)
                self._around[member.id] = (member.group, *self._around.get(member.group, ()))
        for node in nodes.values():
            self._parents[node.id] = node.parents
            self._tolerated[node.id] = node.tolerated_parents
            self._tolerated_by_some |= self._tolerated[node.id]
            self.status.setdefault(node.id, Status.WAITING)

    # --- commands ---------------------------------------------------------------------------------------------------

    def looked_up(self, node: str) -> None:
        """See that a node is looked up."""
        self._check_parents(node)
        if self.nodes[node].hook is not None:
            self._hooks_begun = True
        elif self._stopped and not self._is_of_hook(node) and self.finished is None:
            self.broken.append(f"cancelled: {node} was looked up after the run was cancelled")

    def submitted(self, command: Submit, token: int) -> None:
        """See that an attempt begins; *token* is that of the run's claim on its key, 0 for none."""
        node = command.node
        if not token:
            self.broken.append(f"claimed first: {node} began, and its key is not claimed")
        if command.target != self._target_of[node]:
            self.broken.append(f"room: {node} began on {command.target}, not on {self._target_of[node]}")
        self._check_parents(node)
        self._check_stopped(node)
        self._check_turn(node)
        self._queued.pop(node, None)
        self._running[node] = command.number
        for name in (node, *[around for around in self._around.get(node, ()) if around in self.groups]):
            self._first_start.setdefault(name, self.now)
        self._check_room(node)

    def changed(self, command: Changed) -> None:
        """See a node's or group's new status."""
        node, status = command.node, command.status
        before = self.status.get(node)
        self.status[node] = status
        if node in self.nodes:
            self._check_move(node, before, status)
            if status is Status.QUEUED:
                failed = isinstance(self._event, Failed) and self._event.node == node
                self._queued.pop(node, None)
                (self._retrying.add if failed else self._retrying.discard)(node)
                if not failed:
                    self._queued[node] = 0
            else:
                self._queued.pop(node, None)
                self._retrying.discard(node)
            if status in GOOD:
                self._good_once.add(node)
        if status in ENDED:
            self._check_inside(node, status)

    def finish(self, status: Status) -> None:
        """See how the run ends."""
        if self.finished is not None:
            self.broken.append("ends: the run ended twice")
        self.finished = status

    def settled(self, state: RunState) -> None:
        """Check what holds between two turns."""
        if state.outcome is not None:
            self._hooks_begun = True
        if self._running or self.finished or (self._limited and self._retrying):
            return  # what waits for its retry keeps its place
        waiting = [node for node in self._queued if state.status[node] is Status.QUEUED]
        if waiting:
            self.broken.append(f"no starving: {waiting[0]} waits for its turn while nothing is under way")

    # --- laws of single moments -------------------------------------------------------------------------------------

    def _check_parents(self, node: str) -> None:
        for parent in self._parents[node]:
            ended = self.status.get(parent) in ENDED
            if parent not in self._good_once and not (parent in self._tolerated[node] and ended):
                self.broken.append(f"in order: {node} went on before its parent {parent}")
        if self.nodes[node].hook is not None:
            late = [name for name in self.nodes if not self._is_of_hook(name) and self.status[name] not in ENDED]
            if late:
                self.broken.append(f"hooks: {node} began before {late[0]} had ended")

    def _check_stopped(self, node: str) -> None:
        within = {node, *self._around.get(node, ())}
        if within & self._cancelled and node not in self._good_once:
            self.broken.append(f"cancelled: {node} began, though {min(within & self._cancelled)} was cancelled")
        if self._stopped and not self._is_of_hook(node):
            self.broken.append(f"cancelled: {node} began after the run was cancelled")
        if self.late or self._scenario.faults.lose:
            return  # what was over in time may be made again later
        for name in within & self._first_start.keys():
            limit = self.groups[name].timeout_s if name in self.groups else self.nodes[name].options.total_timeout_s
            if limit is not None and self.now > self._first_start[name] + limit + _LATE_S:
                self.broken.append(f"in time: {node} began after the timeout of {name}")
        limit = self._scenario.timeout_s
        if limit is not None and not self._is_of_hook(node) and self.now > self._begun_at + limit + _LATE_S:
            self.broken.append(f"in time: {node} began after the run's timeout")

    def _check_turn(self, node: str) -> None:
        """Check that no step of larger priority is passed over too often, or without need."""
        if self._limited or not self._prioritised:
            return  # with limits another may wait for a place in what it stands in
        target, mine = self._target_of[node], self.nodes[node].options
        for other, passed in self._queued.items():
            theirs = self.nodes[other].options
            if other == node or self._target_of[other] != target or theirs.priority <= mine.priority:
                continue
            self._queued[other] = passed + 1
            if passed > PASSED_OVER_AT_MOST:
                self.broken.append(f"no starving: {other} was passed over {passed} times")
            if theirs.cpus <= mine.cpus and theirs.memory_bytes <= mine.memory_bytes:
                self.broken.append(f"no starving: {node} went before {other}, which is smaller and more urgent")

    def _check_room(self, node: str) -> None:
        target = self._target_of[node]
        capacity = self._scenario.capacities[target]
        here = [self.nodes[name].options for name in self._running if self._target_of[name] == target]
        memory = sum(one.memory_bytes for one in here)
        if sum(one.cpus for one in here) > capacity.cpus + 1e-9 or len(here) > capacity.slots:
            self.broken.append(f"room: {target} is overfull with {node}")
        if capacity.memory_bytes and memory > capacity.memory_bytes:
            self.broken.append(f"room: {target} has too little memory for {node}")
        if self._limited:
            self._check_limits(node)

    def _check_limits(self, node: str) -> None:
        limit = self._scenario.max_parallel
        if limit is not None and len(self._running) > limit:
            self.broken.append(f"limits: {len(self._running)} are under way with {node}")
        for container in self._around.get(node, ()):
            group = self.groups.get(container)
            limit = group.max_parallel if group is not None else self.nodes[container].options.max_parallel
            if limit is not None and sum(container in self._around.get(name, ()) for name in self._running) > limit:
                self.broken.append(f"limits: too many are under way in {container} with {node}")

    def _check_move(self, node: str, before: Status | None, status: Status) -> None:
        if before in GOOD and status in GOOD:
            self.broken.append(f"earned: {node} ended well twice")
        elif before in GOOD and not (status in {Status.WAITING, Status.RUNNING} and self._lost_something):
            self.broken.append(f"earned: {node} had ended well and is {status}, though nothing was lost")
        elif before in ENDED and before not in GOOD:
            self.broken.append(f"earned: {node} was {before} and is {status}")
        if status is Status.SKIPPED and self.nodes[node].hook is None and not self._lost_something:
            needed = self._parents[node] - self._tolerated[node]
            if not any(self.status[parent] in ENDED - GOOD for parent in needed):
                self.broken.append(f"in order: {node} was skipped, though nothing that it needs went wrong")
        if status in GOOD:
            event = self._event
            by = isinstance(event, (Known, Succeeded, Concluded)) and event.node == node
            if not by:
                self.broken.append(f"earned: {node} is {status} because of {event}")

    def _check_inside(self, container: str, status: Status) -> None:
        for inner in self._inside.get(container, ()):
            if self.status.get(inner, Status.WAITING) not in ENDED:
                self.broken.append(f"closed: {container} ended before {inner}, which is in it")
        if status in GOOD and container in self.groups:
            bad = self._bad(self._all_in(container))
            if bad:
                self.broken.append(f"closed: {container} is {status} though {bad[0]} is {self.status[bad[0]]}")

    # --- laws of whole runs -----------------------------------------------------------------------------------------

    def at_end(self, outcome: Status | None) -> None:
        """Check what holds when nothing more can happen; *outcome* is how the steps ended, before hooks."""
        if self.finished is None:
            waiting = {name: status.value for name, status in self.status.items() if status not in ENDED}
            self.broken.append(f"ends: nothing more can happen, but {waiting}")
            return
        still = [name for name in (*self.nodes, *self.groups) if self.status.get(name) not in ENDED]
        if still:
            self.broken.append(f"ends: {still[0]} is {self.status.get(still[0])} after the run's end")
        self._check_status(outcome)
        self._check_hooks(outcome)

    def _check_status(self, outcome: Status | None) -> None:
        steps = [name for name in self.nodes if not self._is_of_hook(name)]
        bad = {self.status[name] for name in self._bad(steps)}
        timeout_s = self._scenario.timeout_s
        may_time_out = timeout_s is not None and self.now >= self._begun_at + timeout_s - _LATE_S
        if outcome is Status.SUCCEEDED and bad & {Status.FAILED, Status.CANCELLED}:
            self.broken.append(f"status: the run succeeded, but {self._bad(steps)[0]} did not")
        if outcome is Status.FAILED and Status.FAILED not in bad and not may_time_out:
            self.broken.append("status: the run failed, but no step did")
        if outcome is Status.CANCELLED and (not bad or Status.FAILED in bad):
            self.broken.append(f"status: the run is cancelled, but its steps are {sorted(bad)}")
        if self.finished is not outcome and (outcome is not Status.SUCCEEDED or not self._bad(self.nodes)):
            self.broken.append(f"status: the run {self.finished}, but its steps {outcome}")
        if self.finished is Status.SUCCEEDED and {self.status[name] for name in self._bad(self.nodes)} - {
            Status.SKIPPED
        }:
            self.broken.append(f"status: the run succeeded, but {self._bad(self.nodes)[0]} did not")

    def _check_hooks(self, outcome: Status | None) -> None:
        for name, node in self.nodes.items():
            if node.hook is None or self.status[name] is Status.CANCELLED:
                continue
            wanted = {"on_success": Status.SUCCEEDED, "on_failure": Status.FAILED}.get(node.hook, outcome) is outcome
            failed = self.status[name] in {Status.FAILED, *GOOD}
            if failed != wanted:
                self.broken.append(f"hooks: {name} is {self.status[name]} after a run that {outcome}")

    def _bad(self, names: Iterable[str]) -> list[str]:
        """Return those that ended badly without anybody who can do with that."""
        return [name for name in names if self.status.get(name) not in GOOD and not self._is_excused(name)]

    def _is_excused(self, name: str) -> bool:
        steps = [one for one in (name, *self._around.get(name, ())) if one in self.nodes]
        return any(one in self._tolerated_by_some or self.nodes[one].options.optional for one in steps)

    def _all_in(self, container: str) -> list[str]:
        return [name for name in self.nodes if container in self._around.get(name, ())]

    def _is_of_hook(self, node: str) -> bool:
        return self.nodes[node.partition("/")[0]].hook is not None
