"""Where every node of a run stands, how it is taken in and how it ends. When it does is ``state.RunState``'s to say."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from mlflow_pipes.errors import InternalError
from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.graph import GroupNode, StepNode
from mlflow_pipes.model.run import ENDED, GOOD, Status
from mlflow_pipes.scheduling.admission import RUN, Admission
from mlflow_pipes.scheduling.containers import Containers
from mlflow_pipes.scheduling.dependencies import Dependencies
from mlflow_pipes.scheduling.messages import CancelAttempt, Changed, Command, LookUpNode, Release, ReturnTokens
from mlflow_pipes.scheduling.placement import TargetRoom
from mlflow_pipes.scheduling.timers import Timers
from mlflow_pipes.scheduling.tokens import Supply, TokenLine


class Board:
    """The nodes of one run, on the way from waiting to their ends. Each move returns the commands that follow from it.

    Attributes:
        status: of each node.
        failures: why each node that ended badly did, in the order in which they did.
        open: how many nodes have not ended, besides hooks that wait for the end of the run.
        hooks: the nodes that wait for that.
        number: of each node's newest attempt.
        rank: of each node; of those that could begin, the one with the least does.
        admission: who has a place in limited containers.
        to_offer: nodes whose turn may have come since something else has ended, or asks anew.
        claimed: nodes whose key this run holds; taken_over: those whose key another run has taken meanwhile.
        forget: nodes whose cache entry names an output that is gone.
        closed: steps whose returned calls have all ended, with the status derived from theirs; to be dealt with.
        bad: how nodes ended badly whose end is not tolerated; bad_hooks: how hooks did before it was their time.
        message: why the run does not go well.
        fail_fast: the first failure stops everything.
        stopping: nothing more is begun.
        now: the scheduler's clock.
    """

    def __init__(
        self, capacities: Mapping[str, Capacity], supply: Supply, *, fail_fast: bool, max_parallel: int | None
    ) -> None:
        self.status: dict[str, Status] = {}
        self.failures: dict[str, Failure] = {}
        self.nodes: dict[str, StepNode] = {}
        self.groups: dict[str, GroupNode] = {}
        self.target_of: dict[str, str] = {}
        self.rooms: dict[str, TargetRoom] = {}
        self.dependencies = Dependencies()
        self.containers = Containers()
        self.timers = Timers()
        self.tokens = TokenLine(supply, self.timers.tokens)
        self.open = 0
        self.hooks: set[str] = set()
        self.number: dict[str, int] = {}
        self.claimed: set[str] = set()
        self.taken_over: set[str] = set()
        self.forget: set[str] = set()
        self.closed: deque[tuple[str, Status]] = deque()
        self.bad: set[Status] = set()
        self.bad_hooks: set[Status] = set()
        self.message = ""
        self.fail_fast = fail_fast
        self.stopping = False
        self.now = 0.0
        self.rank: dict[str, tuple[int, float, int]] = {}
        self._tolerated: set[str] = set()
        self.to_offer: deque[str] = deque()
        self.admission = Admission(self.containers.around)
        self.admission.limit(RUN, max_parallel)
        for name, capacity in capacities.items():
            self.open_target(name, capacity)

    def open_target(self, name: str, capacity: Capacity) -> None:
        """Take in a target."""
        self.rooms[name] = TargetRoom(name, capacity)
        self.tokens.add_target(name, capacity)

    def add(
        self,
        nodes: Mapping[str, StepNode],
        groups: Mapping[str, GroupNode],
        target_of: Mapping[str, str],
        ranks: Mapping[str, float],
        *,
        grown: str | None,
    ) -> list[str]:
        """Take in a graph, or the calls that a step returned; return the nodes that wait for nothing, first ones first.

        Raises:
            ConfigurationError: a target can never hold one of them, or it asks for tokens that there never are; then
                nothing was taken in.
        """
        for node in nodes.values():
            self.rooms[target_of[node.id]].check(node.id, node.options)
            if node.options.tokens:
                self.tokens.check(node.id, node.options)
        below = 0.0 if grown is None else self._below(grown)
        ready = []
        for position, node in enumerate(nodes.values(), len(self.nodes)):
            self.rank[node.id] = (-node.options.priority, -(ranks.get(node.id, 0.0) + below), position)
            self.status[node.id] = Status.WAITING
            self.tokens.add(node.id, node.options, target_of[node.id])
            self._tolerated |= node.tolerated_parents
            if node.hook is not None:
                self.hooks.add(node.id)
            if self.dependencies.add(node) and node.hook is None:
                ready.append(node.id)
        self.nodes.update(nodes)
        self.groups.update(groups)
        self.target_of.update(target_of)
        self.open += sum(node.hook is None for node in nodes.values())
        if grown is not None:
            self.leave_containers(grown)  # its place is for the calls that it returned
            self.admission.limit(grown, self.nodes[grown].options.max_parallel)
        for group in groups.values():
            self.admission.limit(group.id, group.max_parallel)
        self.closed.extend(self.containers.add(groups, nodes, grown))
        return self._first_ones_first(ready)

    def _first_ones_first(self, nodes: Iterable[str]) -> list[str]:
        """Return nodes in the order in which they are to begin: of those looked up at once, the first begins first."""
        found = list(nodes)
        if len(found) > 1:
            found.sort(key=self.rank.__getitem__)
        return found

    def _below(self, grown: str) -> float:
        """Return the length in seconds of the longest way from the end of a step to that of the run.

        What hangs on a step that returned this one hangs on this one, too.
        """
        longest = 0.0
        container: str | None = grown
        while container is not None:
            after = [-self.rank[child][1] for child in self.dependencies.children(container)]
            longest = max([longest, *after])
            container = self.containers.grown_around(container)
        return longest

    def look_up(self, node: str) -> list[Command]:
        """Have a node, whose inputs are there, looked up."""
        self.status[node] = Status.LOOKING_UP
        self.taken_over.discard(node)
        forget = node in self.forget
        self.forget.discard(node)
        return [LookUpNode(node, forget)]

    def start_total(self, node: str) -> None:
        """Begin to count the time that a step may take in all; of a map each item's counts, not the map's."""
        step = self.nodes[node]
        if step.options.total_timeout_s is not None and step.maps is None:
            self.timers.end_by(self.now + step.options.total_timeout_s, node)

    def containers_started(self, node: str) -> list[Command]:
        """Note that a node in them runs; return the new statuses of the sub-pipelines around it."""
        started = self.containers.step_started(node)
        for group in started:
            timeout_s = self.groups[group].timeout_s
            if timeout_s is not None:
                self.timers.end_by(self.now + timeout_s, group)
        return [Changed(group, Status.RUNNING) for group in started]

    def end_well(self, node: str, status: Status) -> list[Command]:
        """End a node whose output is there, and look up what waited for nothing else."""
        commands = self.end(node, status)
        children = self.dependencies.children(node)
        arrived = [child for child in children if self.dependencies.arrived(node, child)]
        for child in self._first_ones_first(arrived):
            if self.status[child] is Status.WAITING:
                commands += self.look_up(child)
        return commands

    def end(self, node: str, status: Status, reason: str = "", failure: Failure | None = None) -> list[Command]:
        """End a node. Its key is given back, its place in limited containers is free."""
        if self.status[node] in ENDED:
            raise InternalError(f"{node} ended twice: {self.status[node]}, {status}")
        self.status[node] = status
        bad = self.bad
        if node in self.hooks:  # cancelled before its time: it was not counted yet
            self.hooks.discard(node)
            bad = self.bad_hooks
        else:
            self.open -= 1
        commands: list[Command] = []
        if node in self.claimed:
            self.claimed.discard(node)
            commands.append(Release(node))
        self.timers.let_go(node)
        if self.tokens.needs(node):
            commands += self.forget_tokens(node)
        commands.append(Changed(node, status, reason))
        if status not in GOOD:
            self.failures[node] = failure or Failure(FailureKind.CANCELLED, reason)
            if self.is_tolerated(node):
                status = Status.SUCCEEDED  # for whatever it stands in
            else:
                bad.add(status)
        self.closed.extend(self.containers.step_ended(node, status))
        self.leave_containers(node)
        return commands + self.take_closed()

    def give_up(self, node: str, failure: Failure) -> list[Command]:
        """End a node as failed, with what that means for others."""
        if self.status[node] in ENDED:
            return []
        commands = self.end(node, Status.FAILED, failure.message, failure)
        commands += self.skip_below(node, "failed")
        if self.is_tolerated(node):
            return commands
        self.message = self.message or f"step {node!r} failed: {failure.message}"
        if self.fail_fast:
            commands += self.stop(f"stopped, because step {node!r} failed")
        return commands

    def skip_below(self, bad: str, how: str) -> list[Command]:
        """Skip what needs a step that ended badly; look up what can do with that."""
        commands: list[Command] = []
        stack = [(bad, how)]
        while stack:
            parent, how = stack.pop()
            for child in self.dependencies.children(parent):
                if self.status[child] is not Status.WAITING:
                    continue
                if not self.dependencies.tolerates(child, parent):
                    commands += self.end(child, Status.SKIPPED, f"upstream step {parent!r} {how}")
                    stack.append((child, "was skipped"))
                elif self.dependencies.arrived(parent, child):
                    commands += self.look_up(child)
        return commands

    def stop(self, reason: str) -> list[Command]:
        """End everything that has not begun, and ask for the end of what runs."""
        if self.stopping:
            return []
        self.stopping = True
        self.message = self.message or reason
        self.timers.stop(deadlines=True)
        self.tokens.clear()
        self.admission.clear()
        for room in self.rooms.values():
            room.clear()
        commands: list[Command] = []
        for node, status in list(self.status.items()):
            if status is Status.RUNNING:
                if not self.containers.is_grown(node):
                    commands.append(CancelAttempt(node, self.number[node], self.target_of[node]))
            elif status not in ENDED and node not in self.hooks:
                commands += self.end(node, Status.CANCELLED, reason)
        return commands

    def leave_containers(self, node: str) -> None:
        """Free a node's places in limited containers; those that are let in instead begin at the end of the move."""
        self.to_offer += self.admission.leave(node)

    def all_ended(self) -> bool:
        """Tell whether all nodes, besides hooks that wait for that, have ended."""
        return not self.open and not self.closed

    def take_hooks(self) -> list[tuple[str, StepNode]]:
        """Return the nodes that waited for the end of the run; they wait no more."""
        hooks = [(node, self.nodes[node]) for node in self.nodes if node in self.hooks]
        self.hooks.clear()
        return hooks

    def leave_room(self, node: str) -> list[Command]:
        """Free the room of an attempt on its target, and its tokens."""
        self.rooms[self.target_of[node]].release(node)
        return self._return_tokens(node)

    def _return_tokens(self, node: str) -> list[Command]:
        """Give back what a step holds, or withdraw its request."""
        if node not in self.tokens.standing:
            return []
        self.to_offer += self.tokens.freed_by(node)
        return [ReturnTokens(node)]

    def forget_tokens(self, node: str) -> list[Command]:
        """Have a step want no tokens any more."""
        self.ask_next(self.tokens.forget(node))
        return self._return_tokens(node)

    def ask_next(self, node: str | None) -> None:
        """Have the one that comes next ask for its tokens, if there is one."""
        if node is not None:
            self.to_offer.append(node)

    def is_current(self, node: str, number: int) -> bool:
        """Tell whether an answer is of the attempt that is waited for."""
        running = self.status[node] is Status.RUNNING and self.number.get(node) == number
        return running and not self.containers.is_grown(node)

    def is_tolerated(self, node: str) -> bool:
        """Tell whether the run can do with a step's failure: it is optional, or who reads it accepts failures."""
        inner: str | None = node
        while inner is not None:
            if inner in self._tolerated or self.nodes[inner].options.optional:
                return True
            inner = self.containers.grown_around(inner)
        return False

    def take_closed(self) -> list[Command]:
        """Return the new statuses of sub-pipelines that have ended; leave grown steps for later (see ``handle``)."""
        closed, self.closed = self.closed, deque()
        commands: list[Command] = []
        for container, status in closed:
            if self.containers.is_grown(container):
                self.closed.append((container, status))
            else:
                commands.append(Changed(container, status))
        return commands
