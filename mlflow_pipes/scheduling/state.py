"""The state machine of one run: it is told what happened and answers what to do.

A node moves along this table and no other way::

    waiting ──inputs there──▶ looking-up ──known──▶ reused
       ▲                       │   ▲ │
       │                  held└───┘ └─to do─▶ queued ──room──▶ running ──▶ succeeded
       │                                       ▲                │
       │                                       └──── retry ─────┤
       └────────── an input was lost ───────────────────────────┤
                                                                └──▶ failed
    anything not ended ──upstream failed──▶ skipped        anything not ended ──stop──▶ cancelled
    succeeded, reused ──output was lost──▶ waiting
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from mlflow_pipes.errors import InternalError
from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.run import ENDED, GOOD, Status
from mlflow_pipes.scheduling.groups import GroupProgress, run_status
from mlflow_pipes.scheduling.messages import (
    CancelAttempt,
    CancelRequested,
    Changed,
    ClaimLost,
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
    TimePassed,
    ToDo,
    Unresolvable,
)
from mlflow_pipes.scheduling.placement import TargetRoom
from mlflow_pipes.scheduling.policy import is_worth_retrying, retry_delay_s

RECOVERIES_AT_MOST = 3
"""How often one step may find an input lost and have it made again."""

HELD_POLL_FIRST_S, HELD_POLL_MOST_S = 0.02, 0.5
"""Waits between looks at a key that another run holds; each is half as long again as the one before."""

IN_FLIGHT = frozenset({Status.RUNNING})


class RunState:
    """All that a run's scheduler knows.

    Args:
        graph: what to run.
        capacities: what each target can hold, by name.
        target_of: name of each node's target.
        ranks: length of each node's critical path in seconds; longer goes first.
        chance: gives numbers in [0, 1) for jitter.

    Cost of a whole run: O(nodes · log nodes + edges).
    """

    def __init__(
        self,
        graph: Graph,
        capacities: Mapping[str, Capacity],
        target_of: Mapping[str, str],
        ranks: Mapping[str, float],
        chance: Callable[[], float],
    ) -> None:
        self.graph = graph
        self.status: dict[str, Status] = dict.fromkeys(graph.nodes, Status.WAITING)
        self._target_of = target_of
        self._rooms = {name: TargetRoom(name, capacity) for name, capacity in capacities.items()}
        self._chance = chance
        self._missing: dict[str, set[str]] = {}
        self._children: dict[str, list[str]] = {}
        self._rank: dict[str, tuple[int, float, int]] = {}
        for position, node in enumerate(graph.nodes.values()):
            self._rooms[target_of[node.id]].check(node.id, node.options)
            self._rank[node.id] = (-node.options.priority, -ranks.get(node.id, 0.0), position)
            parents = node.parents()
            self._missing[node.id] = parents
            for parent in parents:
                self._children.setdefault(parent, []).append(node.id)
        self._groups = GroupProgress(graph)
        self._open = len(graph.nodes)
        self._number: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._recoveries: dict[str, int] = {}
        self._claimed: set[str] = set()
        self._taken_over: set[str] = set()
        self._forget: set[str] = set()
        self._retries: list[tuple[float, str]] = []
        self._held: dict[str, tuple[float, float]] = {}
        self._deadline: float | None = None
        self._cancel_requested = False
        self._timed_out = False
        self._stopping = False
        self._message = ""
        self.finished = False

    # --- what the loop calls ------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Command]:
        """Start the run."""
        if self.graph.timeout_s is not None:
            self._deadline = now + self.graph.timeout_s
        commands: list[Command] = [Changed(group, status) for group, status in self._groups.empty()]
        for node, missing in self._missing.items():
            if not missing:
                commands += self._look_up(node)
        return commands + self._finish_if_done()

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event and return what to do because of it, in order."""
        match event:
            case Succeeded():
                commands = self._on_succeeded(event)
            case Started():
                commands = []
            case ToDo():
                commands = self._on_to_do(event.node)
            case Known():
                commands = self._on_known(event.node)
            case HeldElsewhere():
                commands = self._on_held(event.node, now)
            case ClaimLost():
                commands = self._on_claim_lost(event.node)
            case Unresolvable():
                commands = self._on_unresolvable(event)
            case Failed():
                commands = self._on_failed(event, now)
            case TimePassed():
                commands = self._on_time(now)
            case CancelRequested():
                self._cancel_requested = True
                commands = self._stop(event.reason)
            case _:
                assert_never(event)
        return commands + self._finish_if_done()

    def next_wake(self) -> float | None:
        """Return when TimePassed should come at the latest, None for never."""
        times = [due for due, _ in self._held.values()]
        if self._retries:
            times.append(self._retries[0][0])
        if self._deadline is not None and not self._stopping:
            times.append(self._deadline)
        return min(times, default=None)

    def attempts(self, node: str) -> int:
        """Return how many attempts of a node were started."""
        return self._number.get(node, 0)

    # --- events -------------------------------------------------------------------------------------------------

    def _on_known(self, node: str) -> list[Command]:
        if self.status[node] is not Status.LOOKING_UP:
            return []
        self._held.pop(node, None)
        return self._end_well(node, Status.REUSED)

    def _on_to_do(self, node: str) -> list[Command]:
        if self.status[node] is not Status.LOOKING_UP:
            return [Release(node)]
        self._held.pop(node, None)
        self._claimed.add(node)
        return self._enqueue(node)

    def _on_held(self, node: str, now: float) -> list[Command]:
        if self.status[node] is Status.LOOKING_UP:
            _, wait = self._held.get(node, (0.0, HELD_POLL_FIRST_S / 1.5))
            wait = min(wait * 1.5, HELD_POLL_MOST_S)
            self._held[node] = (now + wait, wait)
        return []

    def _on_claim_lost(self, node: str) -> list[Command]:
        """Have a step looked up again before it is started (again); an attempt that runs may end."""
        self._claimed.discard(node)
        if self.status[node] in {Status.QUEUED, Status.RUNNING}:
            self._taken_over.add(node)
        return []

    def _on_succeeded(self, event: Succeeded) -> list[Command]:
        if not self._is_current(event.node, event.number):
            return []
        self._leave_room(event.node)
        self._claimed.discard(event.node)
        return [*self._end_well(event.node, Status.SUCCEEDED), *self._fill(self._target_of[event.node])]

    def _on_failed(self, event: Failed, now: float) -> list[Command]:
        node = event.node
        if not self._is_current(node, event.number):
            return []
        self._leave_room(node)
        if self._stopping:
            commands = self._end_badly_when_stopped(node, event.failure)
        elif self._may_recover(node, event.failure):
            commands = self._recover(node, event.lost_producers)
        else:
            commands = self._retry_or_give_up(node, event.failure, now)
        return commands + self._fill(self._target_of[node])

    def _on_unresolvable(self, event: Unresolvable) -> list[Command]:
        if self.status[event.node] is not Status.LOOKING_UP:
            return []  # the run was stopped meanwhile
        if event.lost_producers and self._may_recover(event.node, event.failure):
            return self._recover(event.node, event.lost_producers)
        return self._give_up(event.node, event.failure)

    def _retry_or_give_up(self, node: str, failure: Failure, now: float) -> list[Command]:
        policy = self.graph.nodes[node].options.retries
        failures = self._failures[node] = self._failures.get(node, 0) + 1
        if not is_worth_retrying(policy, failures, failure):
            return self._give_up(node, failure)
        delay = retry_delay_s(policy, failures, self._chance())
        heapq.heappush(self._retries, (now + delay, node))
        self.status[node] = Status.QUEUED
        return [
            Changed(
                node, Status.QUEUED, f"attempt {self._number[node]} failed ({failure.message}); next in {delay:.1f} s"
            )
        ]

    def _on_time(self, now: float) -> list[Command]:
        commands: list[Command] = []
        if self._deadline is not None and now >= self._deadline and not self._stopping:
            self._timed_out = True
            return self._stop(f"the run is past its timeout of {self.graph.timeout_s:g} s")
        while self._retries and self._retries[0][0] <= now:
            _, node = heapq.heappop(self._retries)
            if self.status[node] is Status.QUEUED:
                commands += self._enqueue(node)
        commands += [LookUpNode(node) for node, (due, _) in self._held.items() if due <= now]
        return commands

    # --- moves --------------------------------------------------------------------------------------------------

    def _look_up(self, node: str) -> list[Command]:
        self.status[node] = Status.LOOKING_UP
        self._taken_over.discard(node)
        forget = node in self._forget
        self._forget.discard(node)
        return [LookUpNode(node, forget)]

    def _enqueue(self, node: str) -> list[Command]:
        self.status[node] = Status.QUEUED
        target = self._target_of[node]
        self._rooms[target].offer(node, self._rank[node], self.graph.nodes[node].options)
        commands = self._fill(target)
        return commands if self.status[node] is Status.RUNNING else [Changed(node, Status.QUEUED), *commands]

    def _fill(self, target: str) -> list[Command]:
        commands: list[Command] = []
        room = self._rooms[target]
        while not self._stopping and (node := room.take()) is not None:
            if node in self._taken_over:
                self._leave_room(node)
                commands += self._look_up(node)
                continue
            self.status[node] = Status.RUNNING
            number = self._number[node] = self._number.get(node, 0) + 1
            commands += [Submit(node, number, target), Changed(node, Status.RUNNING)]
            commands += [Changed(group, status) for group, status in self._groups.step_started(node)]
        return commands

    def _end_well(self, node: str, status: Status) -> list[Command]:
        commands = self._end(node, status)
        for child in self._children.get(node, ()):
            missing = self._missing[child]
            missing.discard(node)
            if not missing and self.status[child] is Status.WAITING:
                commands += self._look_up(child)
        return commands

    def _end(self, node: str, status: Status, reason: str = "") -> list[Command]:
        if self.status[node] in ENDED:
            raise InternalError(f"{node} ended twice: {self.status[node]}, {status}")
        self.status[node] = status
        self._open -= 1
        commands: list[Command] = []
        if node in self._claimed:
            self._claimed.discard(node)
            commands.append(Release(node))
        self._held.pop(node, None)
        commands.append(Changed(node, status, reason))
        commands += [Changed(group, derived) for group, derived in self._groups.step_ended(node, status)]
        return commands

    def _give_up(self, node: str, failure: Failure) -> list[Command]:
        if self.status[node] in ENDED:
            return []
        commands = self._end(node, Status.FAILED, failure.message)
        self._message = self._message or f"step {node!r} failed: {failure.message}"
        commands += self._skip_below(node)
        if self.graph.fail_fast:
            commands += self._stop(f"stopped, because step {node!r} failed")
        return commands

    def _skip_below(self, failed: str) -> list[Command]:
        commands: list[Command] = []
        stack = [failed]
        while stack:
            for child in self._children.get(stack.pop(), ()):
                if self.status[child] is Status.WAITING:
                    commands += self._end(child, Status.SKIPPED, f"upstream step {failed!r} failed")
                    stack.append(child)
        return commands

    def _stop(self, reason: str) -> list[Command]:
        """End everything that has not begun, and ask for the end of what runs."""
        if self._stopping:
            return []
        self._stopping = True
        self._message = self._message or reason
        self._retries.clear()
        self._held.clear()
        for room in self._rooms.values():
            room.clear()
        commands: list[Command] = []
        for node, status in self.status.items():
            if status in IN_FLIGHT:
                commands.append(CancelAttempt(node, self._number[node], self._target_of[node]))
            elif status not in ENDED:
                commands += self._end(node, Status.CANCELLED, reason)
        return commands

    def _end_badly_when_stopped(self, node: str, failure: Failure) -> list[Command]:
        if failure.kind in {FailureKind.CANCELLED, FailureKind.INPUT, FailureKind.LOST}:
            return self._end(node, Status.CANCELLED, self._message)
        return self._end(node, Status.FAILED, failure.message)

    def _may_recover(self, node: str, failure: Failure) -> bool:
        parents_ended_badly = any(
            self.status[parent] in ENDED and self.status[parent] not in GOOD
            for parent in self.graph.nodes[node].parents()
        )
        few = self._recoveries.get(node, 0) < RECOVERIES_AT_MOST
        return failure.kind is FailureKind.INPUT and few and not parents_ended_badly

    def _recover(self, node: str, producers: Sequence[str]) -> list[Command]:
        """Have lost inputs made again, then try *node* again; without producers they were constants, stored anew."""
        self._recoveries[node] = self._recoveries.get(node, 0) + 1
        commands: list[Command] = []
        if node in self._claimed:
            self._claimed.discard(node)
            commands.append(Release(node))
        self.status[node] = Status.WAITING
        commands.append(Changed(node, Status.WAITING, "an input was lost and is made again"))
        for producer in producers:
            status = self.status[producer]
            if status in GOOD:
                self._open += 1
                self._groups.step_reopened(producer, status)
                self._forget.add(producer)
                self.status[producer] = Status.WAITING
                commands.append(Changed(producer, Status.WAITING, "its output was lost"))
        for again in [*producers, node]:
            if self.status[again] is Status.WAITING:
                parents = self.graph.nodes[again].parents()
                lost = sorted(p for p in parents if self.status[p] in ENDED and self.status[p] not in GOOD)
                if lost:  # what it needs was to be made again, too, and could not be
                    commands += self._end(again, Status.SKIPPED, f"upstream step {lost[0]!r} failed")
                    commands += self._skip_below(again)
                    continue
                self._missing[again] = {parent for parent in parents if self.status[parent] not in GOOD}
                commands += [] if self._missing[again] else self._look_up(again)
        return commands

    def _leave_room(self, node: str) -> None:
        self._rooms[self._target_of[node]].release(self.graph.nodes[node].options)

    def _is_current(self, node: str, number: int) -> bool:
        return self.status[node] is Status.RUNNING and self._number.get(node) == number

    def _finish_if_done(self) -> list[Command]:
        if self._open or self.finished:
            return []
        self.finished = True
        status = run_status(self.status.values(), self._cancel_requested, self._timed_out)
        return [Finish(status, "" if status is Status.SUCCEEDED else self._message)]
