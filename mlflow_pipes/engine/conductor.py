"""Carries out on ports what the state machine answers, and tells it what came of that. Decides nothing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import assert_never

from mlflow_pipes.engine.assignments import Assignments
from mlflow_pipes.engine.claims import Claims
from mlflow_pipes.engine.effects import Effects, is_effect
from mlflow_pipes.engine.endings import failure_of, outcome_of
from mlflow_pipes.engine.growing import Growing
from mlflow_pipes.engine.growths import is_growth
from mlflow_pipes.engine.inbox import Inbox
from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.questions import Questions
from mlflow_pipes.engine.recorder import Recorder
from mlflow_pipes.engine.roster import Roster
from mlflow_pipes.engine.run_targets import RunTargets, check_gives_spark, check_runs_environments
from mlflow_pipes.errors import PipesError, TargetError
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    Capacity,
    CapacityChanged,
    Failure,
    FailureKind,
    LogLine,
    Progress,
    TargetEvent,
    UsageSample,
)
from mlflow_pipes.model.graph import Graph, StepNode
from mlflow_pipes.model.run import RunEnded, RunStarted, Status
from mlflow_pipes.model.tokens import TokensAwaited, TokensGranted, TokensReturned, TokensShort
from mlflow_pipes.ports import Clock
from mlflow_pipes.scheduling import messages
from mlflow_pipes.scheduling.shortage import shortage
from mlflow_pipes.scheduling.state import RunState

_PLACED = frozenset({Status.QUEUED, Status.RUNNING})
_NOTED = frozenset({Status.QUEUED, Status.RUNNING, Status.REUSED})
_log = logging.getLogger(__name__)


class Conductor:
    """Stands between one run's state machine and its ports; called from the loop's thread alone.

    Args:
        graph: what runs.
        started: the run's first record.
        state: the state machine.
        roster: the nodes, those that grow included.
        inputs: arguments from constants and outputs.
        targets: where attempts run.
        recorder: takes what is to be recorded, and asks the ledger.
        assignments: makes what is sent to targets.
        effects: what earlier runs did that this one resumes, and attempts that wait to be recorded first.
        growing: takes in what grows.
        inbox: for attempts that end before they reach a target.
        clock: gives the time.

    Attributes:
        status: how the run ended, once it has.
    """

    def __init__(
        self,
        graph: Graph,
        started: RunStarted,
        state: RunState,
        roster: Roster,
        inputs: Inputs,
        targets: RunTargets,
        recorder: Recorder,
        assignments: Assignments,
        effects: Effects,
        growing: Growing,
        inbox: Inbox,
        clock: Clock,
    ) -> None:
        self.state = state
        self.status = Status.RUNNING
        self._graph = graph
        self._started = started
        self._roster = roster
        self._inputs = inputs
        self._targets = targets
        self._recorder = recorder
        self._observers = recorder.observers
        self._assignments = assignments
        self._effects = effects
        self._inbox = inbox
        self._clock = clock
        self._growing = growing
        self._questions = Questions(started.run_id, graph.priority, recorder)
        self._claims = Claims(
            started.run_id, state.attempts, roster, inputs, recorder, effects, growing, self._questions, self.tell
        )
        self._facts = self._claims.facts
        self._events: deque[messages.Event] = deque()
        self._telling = False
        targets.on_opened = self._on_target_opened
        inputs.failure_of = partial(failure_of, state)
        inputs.outcome = partial(outcome_of, state, started)

    # --- what the loop calls ------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start the run."""
        self._perform(self.state.begin(self._clock.monotonic()), now)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Ask the ledger until no answer leads to a further question, then begin the effects that it knows of."""
        while self._questions:
            for node, answer in self._questions.ask(now):
                match answer:
                    case TokensGranted():
                        self.tell(messages.Granted(node, answer.units), now)
                    case TokensShort():
                        self.tell(messages.Refused(node, shortage(answer, self._started.run_id)), now)
                    case _:
                        self._claims.answered(node, answer, now)
        if self._effects:
            self._recorder.exchange([], now)
            for command in self._effects.take():
                self._submit(command)

    def claims_lost(self, tokens: Iterable[int], now: float) -> None:
        """Take that other runs have taken over the claims with these fencing tokens."""
        self._claims.lost(tokens, now)

    def break_off(self, message: str, unknown_effect: str, now: float) -> None:
        """Record of all that has not ended that it never will; of effects under way that they may have happened."""
        for node, reached in self.state.status.items():
            if not reached.ended:
                told = unknown_effect if self._may_have_happened(node) else message
                self._recorder.changed(node, Status.CANCELLED, told, now, facts=self._facts.get(node))

    def _may_have_happened(self, node: str) -> bool:
        """Tell whether an attempt at an effect is under way."""
        facts, begun = self._facts.get(node), self.state.attempts(node)
        heard = 0 if facts is None or facts.last is None else facts.last.attempt.number
        return is_effect(self._roster.nodes[node]) and heard < begun

    def _on_target_opened(self, name: str, capacity: Capacity) -> None:
        self.state.handle(messages.TargetOpened(name, capacity), self._clock.monotonic())

    # --- events from targets ------------------------------------------------------------------------------------

    def take(self, event: TargetEvent, now: float) -> None:
        """Take what a target reports."""
        match event:
            case AttemptSucceeded():
                self._on_succeeded(event, now)
            case AttemptFailed():
                self._on_failed(event, now)
            case LogLine():
                self._recorder.line(event, now)
            case AttemptStarted():
                self._observers.seen(event)
                self.tell(messages.Started(event.attempt.node, event.attempt.number), now)
            case Progress():
                self._recorder.progress(event, now)
            case UsageSample():
                self._recorder.sampled(event, now)
            case CapacityChanged():
                self.tell(messages.Resized(event.target, event.capacity), now)
            case _:
                assert_never(event)

    def _on_succeeded(self, event: AttemptSucceeded, now: float) -> None:
        node = self._roster.nodes[event.attempt.node]
        facts = self._facts[node.id]
        if event.attempt.number != self.state.attempts(node.id):
            return  # a late answer of an attempt that was given up
        facts.last = event
        facts.reused_from = None
        self._recorder.output_cached(node, event, facts, now)
        self._recorder.attempt_ended(event, self._roster.target_of[node.id], now)
        self._claims.end(node.id, now)
        if is_growth(event.output):
            self.tell(self._growing.returned(node, event.output, event.attempt.number, now), now)
        else:
            self._inputs.outputs[node.id] = event.output
            self.tell(messages.Succeeded(node.id, event.attempt.number), now)

    def _on_failed(self, event: AttemptFailed, now: float) -> None:
        node = self._roster.nodes[event.attempt.node]
        facts = self._facts[node.id]
        facts.last = event
        self._recorder.attempt_ended(event, self._roster.target_of[node.id], now)
        producers: tuple[str, ...] = ()
        if event.failure.kind is FailureKind.INPUT:
            producers = self._lost_inputs(node, event.failure.blobs)
        self.tell(messages.Failed(node.id, event.attempt.number, event.failure, producers), now)

    def _lost_inputs(self, node: StepNode, blobs: Iterable[str]) -> tuple[str, ...]:
        """Drop blobs that turned out to be unusable; return the nodes that must make them again."""
        _log.warning("step %r could not read its input: blobs missing or corrupt, they are made again", node.id)
        producers = self._inputs.producers_of(node, blobs)
        self._inputs.drop_blobs(blobs)
        if not producers:
            self._inputs.restore_constants(node)
        return producers

    # --- commands -----------------------------------------------------------------------------------------------

    def tell(self, event: messages.Event, now: float) -> None:
        """Tell the state machine, and carry out what it answers; what follows from that waits for its turn."""
        self._events.append(event)
        if self._telling:
            return
        self._telling = True
        try:
            while self._events:
                self._perform(self.state.handle(self._events.popleft(), self._clock.monotonic()), now)
        finally:
            self._telling = False

    def _perform(self, commands: Iterable[messages.Command], now: float) -> None:
        for command in commands:
            match command:
                case messages.LookUpNode():
                    self._claims.look_up(command, now)
                case messages.Submit() if is_effect(self._roster.nodes[command.node]):
                    self._effects.intend(command)
                case messages.Submit():
                    self._submit(command)
                case messages.AskTokens():
                    self._questions.request(command, self._roster.nodes[command.node].options.priority)
                case messages.ReturnTokens() | messages.TokensCame():
                    self._record_tokens(command, now)
                case messages.Conclude():
                    self.tell(self._growing.concluded(command.node), now)
                case messages.Changed():
                    self._record_change(command, now)
                case messages.CancelAttempt():
                    self._cancel_attempt(command)
                case messages.Release():
                    self._claims.release(command.node, now)
                case messages.Finish():
                    self._finish(command, now)
                case _:
                    assert_never(command)

    def _cancel_attempt(self, command: messages.CancelAttempt) -> None:
        attempt = AttemptId(self._started.run_id, command.node, command.number)
        if self._effects.withdraw(command.node) is None:
            self._targets[command.target].cancel(attempt)
            return
        moment = self._clock.now()
        failure = Failure(FailureKind.CANCELLED, "cancelled before it began")
        self._inbox.put(AttemptFailed(attempt, failure, moment, moment))

    def _submit(self, command: messages.Submit) -> None:
        node = self._roster.nodes[command.node]
        assignment = self._assignments.of(node, self._facts[node.id], command.number, command.gpus)
        try:
            target = self._targets[command.target]
            if assignment.environment is not None:
                check_runs_environments(target, node)
            check_gives_spark(target, node)
            target.submit(assignment)
        except TargetError as error:
            moment = self._clock.now()
            failure = Failure(FailureKind.WORLD, str(error), (type(error).__name__,))
            self._inbox.put(AttemptFailed(assignment.attempt, failure, moment, moment))

    def _record_change(self, command: messages.Changed, now: float) -> None:
        node = command.node
        is_step = node in self._roster.nodes
        facts = self._facts.get(node)
        note = facts.note if facts is not None and command.status in _NOTED else ""
        self._recorder.changed(
            node,
            command.status,
            command.reason or note,
            now,
            facts=facts,
            output=self._inputs.outputs.get(node) if command.status.good else None,
            target=self._roster.target_of[node] if is_step and command.status in _PLACED else None,
            attempts=self.state.attempts(node) if is_step else None,
        )

    def _record_tokens(self, command: messages.ReturnTokens | messages.TokensCame, now: float) -> None:
        if isinstance(command, messages.ReturnTokens):
            self._recorder.add(TokensReturned(self._started.run_id, command.node), now)
            return
        step_run_id = self._roster.step_run_ids[command.node]
        self._recorder.add(TokensAwaited(step_run_id, now - command.waited_s, now, command.amounts), now)

    def _finish(self, command: messages.Finish, now: float) -> None:
        self.status = command.status
        output: Artifact | None = None
        message = command.message
        if command.status is Status.SUCCEEDED and self._graph.output is not None:
            try:
                output = self._inputs.artifact(self._graph.output)
            except PipesError as error:
                self.status, message = Status.FAILED, f"the pipeline's output cannot be formed: {error}"
        self._recorder.add(RunEnded(self._started.run_id, self.status, now, output, message), now)
