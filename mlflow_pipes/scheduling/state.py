"""The state machine of one run: it is told what happened and answers what to do.

A node moves along this table and no other way::

    waiting ──inputs there──▶ looking-up ──known──▶ reused
       ▲                       │   ▲ │
       │                  held└───┘ └─to do─▶ queued ──room──▶ running ──▶ succeeded
       │                                       ▲                │  │
       │                                       └──── retry ─────┤  └─returned calls─▶ running, until they have ended
       └────────── an input was lost ───────────────────────────┤
                                                                └──▶ failed
    looking-up ──known to return calls, or maps──▶ running, until they have ended ──▶ succeeded, reused
    anything not ended ──upstream failed──▶ skipped        anything not ended ──stop──▶ cancelled
    succeeded, reused ──output was lost──▶ waiting
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.run import GOOD, Status
from mlflow_pipes.scheduling.board import Board
from mlflow_pipes.scheduling.containers import run_status
from mlflow_pipes.scheduling.messages import (
    CancelRequested,
    Changed,
    ClaimLost,
    Command,
    Conclude,
    Concluded,
    Event,
    Failed,
    Finish,
    Granted,
    Grew,
    HeldElsewhere,
    Known,
    LookUpNode,
    Refused,
    Release,
    Resized,
    Started,
    Succeeded,
    TargetOpened,
    TimePassed,
    ToDo,
    Unresolvable,
)
from mlflow_pipes.scheduling.policy import is_worth_retrying, retry_delay_s
from mlflow_pipes.scheduling.recovery import Recovery
from mlflow_pipes.scheduling.tokens import NOTHING_SHARED, Supply
from mlflow_pipes.scheduling.turns import Turns
from mlflow_pipes.scheduling.verdicts import Verdicts


class RunState:
    """All that a run's scheduler knows.

    Args:
        graph: what to run.
        capacities: what each target can hold, by name.
        target_of: name of each node's target.
        ranks: length of each node's critical path in seconds; longer goes first.
        chance: gives numbers in [0, 1) for jitter.
        supply: what all runs of the workspace share.

    Cost of a whole run: O(nodes · log nodes + edges).

    Attributes:
        finished: the run is over.
        outcome: how its steps ended, once they all have; hooks may still run then.
    """

    def __init__(
        self,
        graph: Graph,
        capacities: Mapping[str, Capacity],
        target_of: Mapping[str, str],
        ranks: Mapping[str, float],
        chance: Callable[[], float],
        supply: Supply = NOTHING_SHARED,
    ) -> None:
        self.graph = graph
        self.finished = False
        self.outcome: Status | None = None
        self._chance = chance
        self._board = Board(capacities, supply, fail_fast=graph.fail_fast, max_parallel=graph.max_parallel)
        self._turns = Turns(self._board)
        self._recovery = Recovery(self._board)
        self._verdicts = Verdicts(self._board, graph.timeout_s)
        self._tries: dict[str, int] = {}
        self._reused_growth: set[str] = set()
        self._held_by: dict[str, str] = {}
        self._ready = self._board.add(graph.nodes, graph.groups, target_of, ranks, grown=None)

    # --- what others ask ----------------------------------------------------------------------------------------

    @property
    def status(self) -> Mapping[str, Status]:
        """Where each node stands."""
        return self._board.status

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Why each node that ended badly did, in the order in which they did."""
        return self._board.failures

    # --- what the loop calls ------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Command]:
        """Start the run."""
        self._board.now = now
        self._verdicts.begin()
        commands = self._board.take_closed()
        ready, self._ready = self._ready, []
        for node in ready:
            commands += self._board.look_up(node)
        return commands + self._finish_if_done()

    def handle(self, event: Event, now: float) -> list[Command]:  # noqa: C901, PLR0912 - one case a kind of event
        """Take one event and return what to do because of it, in order."""
        self._board.now = now
        match event:
            case Succeeded():
                commands = self._on_succeeded(event)
            case Started():
                return []
            case ToDo():
                commands = self._on_to_do(event.node)
            case Known():
                commands = self._on_known(event.node)
            case HeldElsewhere():
                return self._on_held(event)
            case Grew():
                commands = self._on_grew(event)
            case Concluded():
                commands = self._on_concluded(event)
            case ClaimLost():
                commands = self._on_claim_lost(event.node)
            case Unresolvable():
                commands = self._on_unresolvable(event)
            case Failed():
                commands = self._on_failed(event)
            case TimePassed():
                commands = self._on_time()
            case CancelRequested():
                commands = self._verdicts.request(event)
            case Granted() | Refused():
                commands = self._turns.take_answer(event)
            case TargetOpened():
                self._board.open_target(event.name, event.capacity)
                return []
            case Resized():
                commands = self._turns.resize(event.name, event.capacity)
            case _:
                assert_never(event)
        while self._board.closed:
            commands += self._close(*self._board.closed.popleft())
        return commands + self._turns.offer_waiting() + self._finish_if_done()

    def next_wake(self) -> float | None:
        """Return when TimePassed should come at the latest, None for never."""
        return self._board.timers.next_due()

    def attempts(self, node: str) -> int:
        """Return how many attempts of a node were started."""
        return self._board.number.get(node, 0)

    @property
    def message(self) -> str:
        """Why the run does not go well, as far as it is known; empty while it does."""
        return self._board.message

    # --- answers of the cache -------------------------------------------------------------------------------------

    def _on_known(self, node: str) -> list[Command]:
        if self._board.status[node] is not Status.LOOKING_UP:
            return []
        self._board.timers.let_go(node)
        return self._board.end_well(node, Status.REUSED)

    def _on_to_do(self, node: str) -> list[Command]:
        if self._board.status[node] is not Status.LOOKING_UP:  # it has ended meanwhile, or hears it twice
            return [] if node in self._board.claimed else [Release(node)]
        self._board.timers.let_go(node)
        self._board.claimed.add(node)
        return self._turns.enqueue(node)

    def _on_held(self, event: HeldElsewhere) -> list[Command]:
        node = event.node
        if self._board.status[node] is not Status.LOOKING_UP:
            return []
        self._board.timers.hold(node, self._board.now)
        if self._held_by.get(node) == event.by:
            return []
        self._held_by[node] = event.by
        return [Changed(node, Status.LOOKING_UP, f"waits for {event.by}, which is computing the same")]

    def _on_claim_lost(self, node: str) -> list[Command]:
        """Have a step looked up again before it is started (again); an attempt that runs may end."""
        self._board.claimed.discard(node)
        if self._board.status[node] in {Status.QUEUED, Status.RUNNING}:
            self._board.taken_over.add(node)
        return []

    def _on_unresolvable(self, event: Unresolvable) -> list[Command]:
        if self._board.status[event.node] is not Status.LOOKING_UP:
            return []  # the run was stopped meanwhile
        if event.lost_producers and self._recovery.may_help(event.node, event.failure, event.lost_producers):
            return self._recovery.begin(event.node, event.lost_producers)
        return self._board.give_up(event.node, event.failure)

    # --- answers of targets ---------------------------------------------------------------------------------------

    def _on_succeeded(self, event: Succeeded) -> list[Command]:
        if not self._board.is_current(event.node, event.number):
            return []
        self._verdicts.take(event.node)
        self._board.claimed.discard(event.node)
        return [
            *self._board.leave_room(event.node),
            *self._board.end_well(event.node, Status.SUCCEEDED),
            *self._turns.fill(self._board.target_of[event.node]),
        ]

    def _on_failed(self, event: Failed) -> list[Command]:
        node = event.node
        if not self._board.is_current(node, event.number):
            return []
        commands = self._board.leave_room(node)
        verdict = self._verdicts.take(node)
        if verdict is not None:
            commands += self._verdicts.carry_out(node, verdict)
        elif self._board.stopping:
            commands += self._verdicts.end_with_run(node, event.failure)
        elif self._recovery.may_help(node, event.failure, event.lost_producers):
            commands += self._recovery.begin(node, event.lost_producers)
        else:
            commands += self._retry_or_give_up(node, event.failure)
        return commands + self._turns.fill(self._board.target_of[node])

    def _retry_or_give_up(self, node: str, failure: Failure) -> list[Command]:
        policy = self._board.nodes[node].options.retries
        tries = self._tries[node] = self._tries.get(node, 0) + 1
        if not is_worth_retrying(policy, tries, failure):
            return self._board.give_up(node, failure)
        delay = retry_delay_s(policy, tries, self._chance())
        self._board.timers.retry_at(self._board.now + delay, node)
        self._board.status[node] = Status.QUEUED
        reason = f"attempt {self._board.number[node]} failed ({failure.message}); next in {delay:.1f} s"
        return [Changed(node, Status.QUEUED, reason)]

    # --- calls returned by steps ----------------------------------------------------------------------------------

    def _on_grew(self, event: Grew) -> list[Command]:
        node = event.node
        commands: list[Command] = []
        if event.number is None:
            if self._board.status[node] is not Status.LOOKING_UP:
                return []
            self._board.timers.let_go(node)
            self._board.start_total(node)
            commands += [Changed(node, Status.RUNNING), *self._board.containers_started(node)]
        else:
            if not self._board.is_current(node, event.number):
                return []
            self._board.claimed.discard(node)
            commands += self._board.leave_room(node)
            commands += self._turns.fill(self._board.target_of[node])
        verdict = self._verdicts.take(node)
        self._board.status[node] = Status.RUNNING
        if verdict is not None:
            return commands + self._verdicts.carry_out(node, verdict)
        if self._board.stopping:
            return commands + self._board.end(node, Status.CANCELLED, self._board.message)
        try:
            ready = self._board.add(event.nodes, event.groups, event.target_of, event.ranks, grown=node)
        except ConfigurationError as error:
            return commands + self._board.give_up(node, Failure(FailureKind.EXCEPTION, str(error)))
        if event.reused:
            self._reused_growth.add(node)
        commands += self._board.take_closed()
        for child in ready:
            commands += self._board.look_up(child)
        return commands

    def _close(self, node: str, status: Status) -> list[Command]:
        """End a step whose returned calls have all ended, or have its output put together first."""
        if self._board.status[node] is not Status.RUNNING or self._board.containers.is_open(node):
            return []
        verdict = self._verdicts.take(node)
        if verdict is not None:
            return self._verdicts.carry_out(node, verdict)
        if status in GOOD:
            return [Conclude(node)]
        if status is Status.CANCELLED:
            reason = self._board.message or self._board.containers.first_bad(node)
            return self._verdicts.carry_out(node, Failure(FailureKind.CANCELLED, reason))
        return self._board.give_up(node, Failure(FailureKind.INNER, self._board.containers.first_bad(node)))

    def _on_concluded(self, event: Concluded) -> list[Command]:
        node = event.node
        if self._board.status[node] is not Status.RUNNING or self._board.containers.is_open(node):
            return []
        if event.failure is not None:
            return self._board.give_up(node, event.failure)
        reused = node in self._reused_growth and self._board.containers.all_reused(node)
        return self._board.end_well(node, Status.REUSED if reused else Status.SUCCEEDED)

    # --- time -----------------------------------------------------------------------------------------------------

    def _on_time(self) -> list[Command]:
        commands: list[Command] = []
        for name in self._board.timers.deadlines_due(self._board.now):
            commands += self._verdicts.out_of_time(name)
        for node in self._board.timers.retries_due(self._board.now):
            if self._board.status[node] is Status.QUEUED:
                commands += self._turns.enqueue(node)
        self._turns.ask_again()
        return commands + [LookUpNode(node) for node in self._board.timers.held_due(self._board.now)]

    # --- the end --------------------------------------------------------------------------------------------------

    def _finish_if_done(self) -> list[Command]:
        if self.finished or not self._board.all_ended():
            return []
        commands: list[Command] = []
        if self.outcome is None:
            self.outcome = run_status(self._board.bad, self._verdicts.requested, self._verdicts.timed_out)
            commands = self._begin_hooks(self.outcome)
            if not self._board.all_ended():
                return commands
        self.finished = True
        status = self.outcome
        if status is Status.SUCCEEDED and self._board.bad:  # only hooks can have been that
            status = run_status(self._board.bad, cancel_requested=True, timed_out=False)
        return [*commands, Finish(status, "" if status is Status.SUCCEEDED else self._board.message)]

    def _begin_hooks(self, outcome: Status) -> list[Command]:
        """Start the run's exit hooks that are for an end of this kind."""
        self._board.stopping = self._board.fail_fast = False
        self._board.timers.stop(deadlines=True)
        self._board.bad = self._board.bad_hooks
        wanted = {Status.SUCCEEDED: {"on_success"}, Status.FAILED: {"on_failure"}}.get(outcome, set()) | {"always"}
        commands: list[Command] = []
        for hook, node in self._board.take_hooks():
            if node.hook in wanted:
                self._board.open += 1
                commands += self._board.look_up(hook)
            else:
                self._board.status[hook] = Status.SKIPPED
                commands.append(Changed(hook, Status.SKIPPED, f"the run {_ENDS[outcome]}"))
        return commands


_ENDS = {Status.SUCCEEDED: "succeeded", Status.FAILED: "failed", Status.CANCELLED: "was cancelled"}
