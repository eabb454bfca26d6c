"""The orchestrator of a simulated run: the real state machine, and its commands carried out by a virtual clock.

It does for the machine what ``engine/loop.py`` does: asks the ledger, holds records until they are committed, lets
steps of one key wait for each other, and drops answers to questions that were asked again since.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.scheduling.messages import (
    CancelAttempt,
    CancelRequested,
    Changed,
    ClaimLost,
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
    TimePassed,
    ToDo,
)
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.testing.fate import Fate, key_of
from mlflow_pipes.testing.laws import Witness
from mlflow_pipes.testing.simulated_ledger import Answer, Claimed, Forgotten, GivenBack, Held, Hit, Made, Written

if TYPE_CHECKING:
    from mlflow_pipes.testing.simulator import Simulation

COMMIT_WITHIN_S = 0.02


class Crashed(Exception):  # noqa: N818 - no error: the scenario wants it
    """The orchestrator dies here; what it has not committed is lost."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        super().__init__(orchestrator.name)
        self.orchestrator = orchestrator


class Orchestrator:
    """One life of a run's orchestrator.

    Attributes:
        name: of the run; a run that is started again is another one.
        spans: (node, attempt, start, end) of every attempt that ended well, in virtual seconds.
        committed_spans: those of them that a crash could not take back any more.
        witness: what others see of the run.
        wake_at: when it wants to be told that time has passed.
        died_at: when it crashed.
    """

    def __init__(self, world: Simulation, index: int, incarnation: int, crash_after: int | None) -> None:
        self.name = f"run{index}" + "'" * incarnation
        self.index, self.incarnation = index, incarnation
        self.busy_since = self.busy_until = 0.0
        self.wake_at = math.inf
        self.died_at: float | None = None
        self.spans: list[tuple[str, int, float, float]] = []
        self.committed_spans: list[tuple[str, int, float, float]] = []
        self._world = world
        self._scenario = scenario = world.scenario
        graph = scenario.graph()
        target_of = {task.name: task.target for task in scenario.tasks}
        self._draws = 0
        self.state = RunState(graph, scenario.capacities, target_of, {}, self._draw)
        self.witness = Witness(scenario, graph, target_of)
        self._fate = Fate(scenario, self.name, world.ledger, self.witness)
        self._tokens: dict[str, int] = {}
        self._ended_tokens: set[int] = set()
        self._computing: dict[str, str] = {}
        self._twins: dict[str, list[str]] = {}
        self._asked: dict[str, int] = {}
        self._concluding: dict[str, int] = {}
        self._lookups: dict[str, str] = {}
        self._records: list[Written] = []
        self._commit_sent = False
        self._started: dict[tuple[str, int], float] = {}
        self._left = crash_after

    # --- what the world calls -------------------------------------------------------------------------------------

    @property
    def grown(self) -> Mapping[str, set[str]]:
        """Names of the calls that each node returned."""
        return self._fate.grown

    def begin(self) -> None:
        """Start the run."""
        self.witness.now = self._world.now
        self.witness.begun()
        self._perform(self.state.begin(self._world.now))
        self._end_turn()

    def time_passed(self) -> None:
        """Tell the state machine that it is later."""
        self._hear(TimePassed())

    def cancel(self, name: str | None) -> None:
        """Cancel the run, or a part of it; one that is not there yet or any more is no part."""
        if name is None or name in self.state.status or name in self.witness.groups:
            self._hear(CancelRequested(node=name))

    def block(self, seconds: float) -> None:
        """Stand still; what arrives waits, and after that it hears which keys were taken over meanwhile."""
        now = self._world.now
        self.witness.late = True
        if now >= self.busy_until:
            self.busy_since = now
        self.busy_until = max(self.busy_until, now + seconds)
        self.wake_at = max(self.wake_at, self.busy_until)
        self._world.send(self.busy_until, self, self._heartbeat)

    def take_broken(self) -> list[str]:
        """Return, once, the laws that did not hold."""
        found, self.witness.broken = self.witness.broken, []
        return [f"{told} [{self.name}, {self._world.now:.3f} s]" for told in found]

    def broken_at_end(self) -> list[str]:
        """Return the laws that do not hold now that nothing more will happen."""
        self.witness.at_end(self.state.outcome)
        left = self._world.ledger.claims_of(self.name)
        if left:
            self.witness.broken.append(f"gives back: the key {min(left)} is still claimed")
        return self.take_broken()

    # --- one turn -------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        self._log("<-", event)
        if isinstance(event, Grew):
            self._fate.grown[event.node] = set(event.nodes)
        self.witness.heard(event, self._world.now)
        commands = self.state.handle(event, self._world.now)
        if isinstance(event, Grew):
            told = {command.node for command in commands if isinstance(command, Changed)}
            taken = event.nodes.keys() <= self.state.status.keys() if event.nodes else event.groups.keys() <= told
            self.witness.joined(event, taken=taken)
        self._perform(commands)
        self._end_turn()

    def _end_turn(self) -> None:
        while self._lookups:
            self._ask()
        self.witness.settled(self.state)
        wake = None if self.state.finished else self.state.next_wake()
        self.wake_at = math.inf if wake is None else max(wake, self.busy_until)
        if self._records and not self._commit_sent:
            self._commit_sent = True
            self._world.send(self._world.now + (0.0 if self.state.finished else COMMIT_WITHIN_S), self, self._commit)

    def _commit(self) -> None:
        self._commit_sent = False
        self._exchange(())

    def _exchange(self, asked: Iterable[str]) -> list[Answer]:
        self._effect()
        written, self._records = self._records, []
        self.committed_spans += self.spans[len(self.committed_spans) :]
        return self._world.ledger.exchange(self.name, written, asked)

    def _effect(self) -> None:
        """Count something that is visible from outside, or die before it."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Crashed(self)

    def _perform(self, commands: Iterable[Command]) -> None:
        for command in commands:
            self._effect()
            self._log("->", command)
            match command:
                case LookUpNode():
                    self.witness.looked_up(command.node)
                    self._look_up(command)
                case Submit():
                    self._submit(command)
                case CancelAttempt(node, number, _):
                    cancelled = Failed(node, number, Failure(FailureKind.CANCELLED, "cancelled"))
                    after = 0.01 if self._chance("stubborn", node, number) < 0.7 else 1.0
                    self._send(after, partial(self._attempt_ended, cancelled))
                case Conclude(node):
                    self._concluding[node] = self._concluding.get(node, 0) + 1
                    self._answer(self._fate.of_conclusion(node), node, self._concluding[node], self._concluding)
                case Release(node):
                    self._release(node)
                case Changed():
                    self.witness.changed(command)
                case Finish():
                    self.witness.finish(command.status)

    # --- the ledger -------------------------------------------------------------------------------------------------

    def _look_up(self, command: LookUpNode) -> None:
        node = command.node
        task = self._fate.tasks[node]
        number = self._asked[node] = self._asked.get(node, 0) + 1
        if command.forget:
            self._records.append(Forgotten(key_of(task)))
        if self._befalls(self._scenario.faults.unreadable, "unreadable", node, number):
            self._lookups.pop(node, None)
            self._answer(self._fate.of_arguments(task, number), node, number, self._asked)
        elif self._befalls(self._scenario.faults.held, "held", node, number):
            self._lookups.pop(node, None)
            self._answer(HeldElsewhere(node, "a run elsewhere"), node, number, self._asked)
        else:
            self._lookups[node] = key_of(task)

    def _ask(self) -> None:
        asked, self._lookups = self._lookups, {}
        for key in asked.values():
            if self._scenario.befalls(self._scenario.faults.hit, "hit", key):
                self._world.ledger.know(key)
        answers = self._exchange(asked.values())
        delay, about = 0.0, (*asked, *[self._asked[node] for node in asked])
        if self._befalls(self._scenario.faults.slow, "slow", *about):
            delay = self._chance("how slow", *about)
            if delay < 0.5:  # nothing else is done meanwhile
                self.block(8.0 * delay)
                delay = 0.0
        for node, answer in zip(asked, answers, strict=True):
            self._send(2.0 * delay, partial(self._on_answer, node, self._asked[node], answer))

    def _on_answer(self, node: str, number: int, answer: Answer) -> None:
        if self._asked[node] != number:
            return  # asked again meanwhile: that answer counts
        key = key_of(self._fate.tasks[node])
        match answer:
            case Hit() if key in self._world.ledger.gone:
                self._look_up(LookUpNode(node, forget=True))
                self._end_turn()
            case Hit():
                self._answer(self._fate.growth(node, None) or Known(node), node, number, self._asked, at_once=True)
            case Held(run):
                self._answer(HeldElsewhere(node, run), node, number, self._asked, at_once=True)
            case Claimed(token) if token in self._ended_tokens:
                self._look_up(LookUpNode(node))
                self._end_turn()
            case Claimed() if (twin := self._computing.setdefault(key, node)) != node:
                waiting = self._twins.setdefault(key, [])
                if node not in waiting:
                    waiting.append(node)
                self._answer(HeldElsewhere(node, twin), node, number, self._asked, at_once=True)
            case Claimed(token):
                self._tokens[node] = token
                self._answer(ToDo(node), node, number, self._asked, at_once=True)

    def _answer(self, event: Event, about: str, number: int, newest: dict[str, int], *, at_once: bool = False) -> None:
        """Have an answer heard, perhaps again, and perhaps again much later; not after the question was repeated."""

        def hear() -> None:
            if newest[about] == number:
                self._hear(event)

        kind = type(event).__name__
        first = 0.0
        if isinstance(event, Concluded) and self._befalls(self._scenario.faults.slow, "slow", about, number):
            first = 0.5
        if not at_once:
            self._send(first, hear)
        if self._befalls(self._scenario.faults.duplicate, "twice", kind, about, number):
            self._send(first, hear)
        asks_again = isinstance(event, HeldElsewhere)  # so its answer would be one to an old question
        if not asks_again and self._befalls(self._scenario.faults.late, "late", kind, about, number):
            self._send(first + 5.0 * self._chance("how late", kind, about, number), hear)
        if at_once:
            hear()

    def _release(self, node: str) -> None:
        token = self._tokens.pop(node, 0)
        if token:
            self._records.append(GivenBack(key_of(self._fate.tasks[node]), token))
            self._land(node, token)

    def _land(self, node: str, token: int) -> None:
        """Look again for the nodes that waited for this one to compute their key."""
        key = key_of(self._fate.tasks[node])
        self._ended_tokens.add(token)
        if self._computing.get(key) == node:
            del self._computing[key]
            for waiting in self._twins.pop(key, ()):
                self._look_up(LookUpNode(waiting))

    def _heartbeat(self) -> None:
        if self._world.now < self.busy_until:
            return
        for node, token in list(self._tokens.items()):
            if token in self._world.ledger.fenced:
                del self._tokens[node]
                self._hear(ClaimLost(node))
                self._land(node, token)
        self._end_turn()

    # --- attempts -------------------------------------------------------------------------------------------------

    def _submit(self, command: Submit) -> None:
        node, number = command.node, command.number
        task = self._fate.tasks[node]
        key, token = key_of(task), self._tokens.get(node, 0)
        self.witness.submitted(command, token)
        self._check_flying(node, key, token)
        self._world.flying[key] = (self, node, number, token)
        self._started[node, number] = self._world.now
        self._send(0.0, partial(self._hear, Started(node, number)))
        ended = partial(self._attempt_ended, self._fate.of_attempt(task, number))
        self._send(task.seconds, ended)
        if self._befalls(self._scenario.faults.duplicate, "twice", node, number):
            self._send(task.seconds, ended)
        if self._befalls(self._scenario.faults.late, "late", node, number):
            self._send(task.seconds + 100.0 * self._chance("how late", node, number), ended)

    def _check_flying(self, node: str, key: str, mine: int) -> None:
        other = self._world.flying.get(key)
        if other is None:
            return
        run, twin, _, token = other
        if run.died_at is None and not {mine, token} & self._world.ledger.fenced:
            self.witness.broken.append(f"single flight: {node} was started while {run.name} computes {twin}, the same")

    def _attempt_ended(self, event: Succeeded | Grew | Failed) -> None:
        node, number = event.node, event.number
        started = None if number is None else self._started.pop((node, number), None)
        if started is not None:  # else it is not the first answer
            assert number is not None
            key = key_of(self._fate.tasks[node])
            flying = self._world.flying.get(key)
            if flying is not None and flying[:3] == (self, node, number):
                del self._world.flying[key]
            if not isinstance(event, Failed) and number == self.state.attempts(node):
                self.spans.append((node, number, started, self._world.now))
                self._world.ledger.gone.discard(key)
                token = self._tokens.pop(node, 0)
                self._records.append(Made(key, token))
                self._land(node, token)
        self._hear(event)

    # --- small things -------------------------------------------------------------------------------------------------

    def _send(self, after: float, action: Callable[[], None]) -> None:
        self._world.send(self._world.now + after, self, action)

    def _chance(self, *about: object) -> float:
        return self._scenario.chance(self.name, *about)

    def _befalls(self, probability: float, *about: object) -> bool:
        return self._scenario.befalls(probability, self.name, *about)

    def _draw(self) -> float:
        self._draws += 1
        return self._chance("jitter", self._draws)

    def _log(self, arrow: str, what: object) -> None:
        if self._world.log is not None:
            self._world.log(f"{self._world.now:9.3f} {self.name} {arrow} {what}")
