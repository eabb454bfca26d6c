"""Carries out on ports what the state machine answers, and tells it what came of that. Decides nothing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import assert_never

from mlflow_pipes.engine.assignments import Assignments
from mlflow_pipes.engine.awaited import Awaited
from mlflow_pipes.engine.effects import Effects, is_effect
from mlflow_pipes.engine.endings import failure_of, outcome_of
from mlflow_pipes.engine.growing import Growing
from mlflow_pipes.engine.growths import is_growth
from mlflow_pipes.engine.inbox import Inbox
from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.questions import Questions
from mlflow_pipes.engine.recorder import NodeFacts, Recorder
from mlflow_pipes.engine.roster import Roster
from mlflow_pipes.engine.run_targets import RunTargets, check_gives_spark, check_runs_environments
from mlflow_pipes.engine.twins import Twins
from mlflow_pipes.errors import InternalError, PipesError, TargetError, WorldError
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
from mlflow_pipes.model.run import (
    Answer,
    Claimed,
    EntryForgotten,
    Held,
    Hit,
    KeyReleased,
    Miss,
    RunEnded,
    RunStarted,
    Status,
)
from mlflow_pipes.model.tokens import TokensAwaited, TokensGranted, TokensReturned, TokensShort
from mlflow_pipes.ports import Clock
from mlflow_pipes.scheduling import messages
from mlflow_pipes.scheduling.keys import action_key
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
        self._twins = Twins()
        self._awaited = Awaited()
        self._facts: dict[str, NodeFacts] = {}
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
                self._on_answer(node, answer, now)
        if self._effects:
            self._recorder.exchange([], now)
            for command in self._effects.take():
                self._submit(command)

    def claims_lost(self, tokens: Iterable[int], now: float) -> None:
        """Take that other runs have taken over the claims with these fencing tokens."""
        lost = set(tokens)
        for node, facts in list(self._facts.items()) if lost else ():
            if facts.token in lost:
                facts.token = 0
                self.tell(messages.ClaimLost(node), now)
                self._landed(facts.key, node, now)

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
        facts.token = 0
        self._landed(facts.key, node.id, now)
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
                    self._look_up(command, now)
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
                    self._release(command.node, now)
                case messages.Finish():
                    self._finish(command, now)
                case _:
                    assert_never(command)

    def _look_up(self, command: messages.LookUpNode, now: float) -> None:
        node = self._roster.nodes[command.node]
        known = self._facts.get(node.id)
        if command.forget and known is not None:
            self._recorder.add(EntryForgotten(known.key), now)
        try:
            arguments = self._inputs.arguments(node)
        except PipesError as error:
            self._unresolvable(node, error, now)
            return
        if node.maps is not None:
            self._facts[node.id] = NodeFacts()
            self.tell(self._growing.mapped(node, arguments, now), now)
            return
        inputs = {name: artifact.identity for name, artifact in arguments.items()}
        key = action_key(node.step.code.digest, inputs)
        self._facts[node.id] = NodeFacts(key=key, inputs=inputs, arguments=arguments)
        if node.step.reuse == "never":
            self._look_up_effect(node, key, now, lost=command.forget)
        else:
            self._questions.look_up(node.id, key, node.step.max_age_s)

    def _look_up_effect(self, node: StepNode, key: str, now: float, *, lost: bool) -> None:
        done = None if lost else self._effects.done(node, key)
        if done is not None:
            self._facts[node.id].note = f"it happened in run {done.run_id[:8]}, which this one resumes"
            self._on_answer(node.id, Hit(key, done.output, done.step_run_id, now, 0.0), now)
            return
        warning = self._effects.warning(node, key)
        self._facts[node.id].note = warning
        self._say(node.id, warning and f"warning: it {warning}", now)
        self.tell(messages.ToDo(node.id), now)

    def _say(self, node: str, text: str, now: float) -> None:
        """Say something about a step where its output is seen; nothing for an empty text."""
        if text:
            attempt = AttemptId(self._started.run_id, node, self.state.attempts(node) + 1)
            self._recorder.line(LogLine(attempt, "pipes", text, now), now)

    def _cancel_attempt(self, command: messages.CancelAttempt) -> None:
        attempt = AttemptId(self._started.run_id, command.node, command.number)
        if self._effects.withdraw(command.node) is None:
            self._targets[command.target].cancel(attempt)
            return
        moment = self._clock.now()
        failure = Failure(FailureKind.CANCELLED, "cancelled before it began")
        self._inbox.put(AttemptFailed(attempt, failure, moment, moment))

    def _unresolvable(self, node: StepNode, error: PipesError, now: float) -> None:
        producers: tuple[str, ...] = ()
        kind = FailureKind.EXCEPTION
        if isinstance(error, WorldError):
            kind = FailureKind.INPUT
            producers = self._inputs.incomplete_producers(node)
        failure = Failure(kind, f"the arguments of step {node.id!r} cannot be formed: {error}")
        self._facts.setdefault(node.id, NodeFacts())
        self.tell(messages.Unresolvable(node.id, failure, producers), now)

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

    def _release(self, node: str, now: float) -> None:
        facts = self._facts[node]
        if facts.token:
            self._recorder.add(KeyReleased(facts.key, facts.token), now)
            facts.token = 0
            self._landed(facts.key, node, now)

    def _landed(self, key: str, node: str, now: float) -> None:
        """Look again for the steps of this run that waited for *node* to make the output of their key."""
        self._perform([messages.LookUpNode(waiting) for waiting in self._twins.land(key, node)], now)

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

    # --- the ledger ---------------------------------------------------------------------------------------------

    def _on_answer(self, node: str, answer: Answer, now: float) -> None:
        facts = self._facts[node]
        match answer:
            case TokensGranted():
                self.tell(messages.Granted(node, answer.units), now)
            case TokensShort():
                self.tell(messages.Refused(node, shortage(answer, self._started.run_id)), now)
            case Hit():
                if not self._inputs.is_whole(answer.output):
                    _log.warning("the stored output of step %r is incomplete; it is made again", node)
                    self._perform([messages.LookUpNode(node, forget=True)], now)
                    return
                facts.reused_from = answer.step_run_id
                self._awaited.came(node)
                if is_growth(answer.output):
                    self.tell(self._growing.returned(self._roster.nodes[node], answer.output, None, now), now)
                else:
                    self._inputs.outputs[node] = answer.output
                    self.tell(messages.Known(node), now)
            case Claimed() if (twin := self._twins.join(facts.key, node)) is not None:
                self.tell(messages.HeldElsewhere(node, f"step {twin!r}"), now)
            case Claimed():
                facts.token = answer.token
                facts.note, told = self._awaited.take_over(node)
                self._say(node, told, now)
                self.tell(messages.ToDo(node), now)
            case Held():
                self._say(node, self._awaited.wait(node, answer), now)
                self.tell(messages.HeldElsewhere(node, f"run {answer.run_id[:8]} on {answer.host}"), now)
            case Miss():
                raise InternalError(f"the ledger did not claim the key of {node!r} as asked")
            case _:
                assert_never(answer)
