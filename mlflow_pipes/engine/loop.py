"""The loop of one run: command -> port -> event."""

from __future__ import annotations

import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import assert_never

from mlflow_pipes.engine.assignments import Assignments
from mlflow_pipes.engine.effects import Effects, is_effect
from mlflow_pipes.engine.endings import failure_of, outcome_of
from mlflow_pipes.engine.growing import Growing
from mlflow_pipes.engine.growths import is_growth
from mlflow_pipes.engine.inbox import Inbox
from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.observers import Observers
from mlflow_pipes.engine.questions import Questions
from mlflow_pipes.engine.recorder import COMMIT_WITHIN_S, NodeFacts, Recorder, RunLog
from mlflow_pipes.engine.roster import Roster
from mlflow_pipes.engine.run_targets import RunTargets
from mlflow_pipes.engine.twins import Twins
from mlflow_pipes.errors import InternalError, PipesError, TargetError, WorldError
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import (
    AttemptFailed,
    AttemptId,
    AttemptStarted,
    AttemptSucceeded,
    Capacity,
    Failure,
    FailureKind,
    LogLine,
    Progress,
    TargetEvent,
)
from mlflow_pipes.model.graph import Graph, StepNode
from mlflow_pipes.model.resumption import UNKNOWN_EFFECT, Resumption
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
from mlflow_pipes.ports import Clock, ComputeTarget, Ledger, RunObserver
from mlflow_pipes.scheduling import messages
from mlflow_pipes.scheduling.keys import action_key
from mlflow_pipes.scheduling.shortage import shortage
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.scheduling.tokens import NOTHING_SHARED, Supply

HEARTBEAT_EVERY_S = 1.0
CANCELLED_ELSEWHERE = "cancelled from another process"
_PLACED = frozenset({Status.QUEUED, Status.RUNNING})
_NOTED = frozenset({Status.QUEUED, Status.RUNNING, Status.REUSED})
_log = logging.getLogger(__name__)


class Engine:
    """Runs one graph to its end, in the calling thread.

    Args:
        graph: what to run.
        started: the run's first record.
        ledger: where history and step cache are.
        inputs: constants of the graph, already prepared.
        targets: started compute targets by name; the caller closes them.
        default_target: for steps that name none.
        observers: see records and events as they happen.
        log: keeps what steps print.
        clock: gives the time.
        new_id: gives ids of 32 hex digits.
        chance: gives numbers in [0, 1).
        environ: environment variables for every attempt.
        supply: tokens, and shared targets: what all runs of the workspace share.
        open_target: makes and starts a target that only calls returned by a step ask for; the caller closes it.
        inbox: where targets that were started before report to; the engine closes it when the run is over.
        resumption: what the run takes over from those that it resumes.

    Raises:
        ConfigurationError: a step names a target or a token that is not there, or asks for more than there is.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        started: RunStarted,
        ledger: Ledger,
        inputs: Inputs,
        targets: Mapping[str, ComputeTarget],
        default_target: str,
        observers: Sequence[RunObserver] = (),
        log: RunLog | None = None,
        clock: Clock,
        new_id: Callable[[], str],
        chance: Callable[[], float] = random.random,
        environ: Mapping[str, str] | None = None,
        supply: Supply = NOTHING_SHARED,
        open_target: Callable[[str], ComputeTarget] | None = None,
        inbox: Inbox | None = None,
        resumption: Resumption | None = None,
    ) -> None:
        self._graph = graph
        self._started = started
        self._ledger = ledger
        self._inputs = inputs
        self._targets = RunTargets(targets, open_target)
        self._observers = Observers(observers)
        self._clock = clock
        self._roster = Roster(self._targets, default_target, ledger.estimates(graph.name), new_id)
        self._roster.add(graph.groups, graph.nodes)
        self._recorder = Recorder(started.run_id, graph.name, self._roster.step_run_ids, ledger, log, self._observers)
        self._growing = Growing(self._roster, inputs, self._recorder)
        self._assignments = Assignments(started, self._roster.step_run_ids, environ or {})
        self._effects = Effects(resumption)
        self._cancelled_steps: set[str] = set()
        self._facts: dict[str, NodeFacts] = {}
        self._questions = Questions(started.run_id, graph.priority, self._recorder)
        self._twins = Twins()
        self._events: deque[messages.Event] = deque()
        self._handling = False
        self._inbox = inbox or Inbox()
        self._cancel_reason: str | None = None
        self._next_heartbeat = 0.0
        self._status = Status.RUNNING
        ranks = self._roster.ranks(graph.nodes)
        self._state = RunState(graph, self._targets.capacities(), self._roster.target_of, ranks, chance, supply)
        self._targets.on_opened = self._on_target_opened
        inputs.failure_of = partial(failure_of, self._state)
        inputs.outcome = partial(outcome_of, self._state, started)

    def _on_target_opened(self, name: str, capacity: Capacity) -> None:
        self._state.handle(messages.TargetOpened(name, capacity), self._clock.monotonic())

    # --- for others ---------------------------------------------------------------------------------------------

    def report(self, event: TargetEvent) -> None:
        """Take an event from a target; from any thread."""
        self._inbox.put(event)

    def cancel(self, reason: str) -> None:
        """Ask the run to stop; from any thread or signal handler. Returns at once."""
        self._cancel_reason = self._cancel_reason or reason
        self._inbox.wake()

    def run(self) -> Status:
        """Run the graph to its end and return how it ended."""
        now = self._clock.now()
        self._recorder.add(self._started, now)
        self._recorder.declare(self._graph.groups, self._graph.nodes, now)
        self._next_heartbeat = self._clock.monotonic() + HEARTBEAT_EVERY_S
        try:
            self._recorder.exchange([], now)  # the run is there for others to see before anything runs
            self._perform(self._state.begin(self._clock.monotonic()), now)
            self._exchange_all(now)
            self._begin_effects(now)
            while not self._state.finished:
                self._turn()
            self._recorder.exchange([], self._clock.now())
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            self._inbox.close()
        return self._status

    def _break_off(self, error: BaseException) -> None:
        """Record as much as can be that the run is over, so that its claims do not outlive it in a living process."""
        now = self._clock.now()
        status = Status.CANCELLED if isinstance(error, KeyboardInterrupt) else Status.FAILED
        told = str(error) if isinstance(error, PipesError) else repr(error)
        message = "interrupted at once" if status is Status.CANCELLED else f"the orchestrator failed: {told}"
        for node, reached in self._state.status.items():
            if not reached.ended:
                told = UNKNOWN_EFFECT if self._may_have_happened(node) else message
                self._recorder.changed(node, Status.CANCELLED, told, now, facts=self._facts.get(node))
        self._recorder.add(RunEnded(self._started.run_id, status, now, None, message), now)
        with contextlib.suppress(WorldError):
            self._recorder.exchange([], now)

    def _may_have_happened(self, node: str) -> bool:
        """Tell whether an attempt at an effect is under way."""
        facts, begun = self._facts.get(node), self._state.attempts(node)
        heard = 0 if facts is None or facts.last is None else facts.last.attempt.number
        return is_effect(self._roster.nodes[node]) and heard < begun

    # --- one turn -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._inbox.wait(self._sleep_s(), [fileno for target in self._targets.polled for fileno in target.filenos()])
        for target in self._targets.polled:
            target.poll()
        now = self._clock.now()
        if self._cancel_reason is not None:
            reason, self._cancel_reason = self._cancel_reason, None
            self._handle(messages.CancelRequested(reason), now)
        for event in self._inbox.take_all():
            self._take(event, now)
        wake = self._state.next_wake()
        if wake is not None and wake <= self._clock.monotonic():
            self._handle(messages.TimePassed(), now)
        self._exchange_all(now)
        self._begin_effects(now)
        due = self._recorder.due()
        if due is not None and not now < due <= now + COMMIT_WITHIN_S:  # later than that: the clock was put back
            self._recorder.exchange([], now)
        if self._clock.monotonic() >= self._next_heartbeat:
            self._heartbeat(now)

    def _sleep_s(self) -> float:
        """Return how long nothing has to be done; by the clock that nobody sets, but for what waits to be committed."""
        times = [
            self._next_heartbeat,
            self._state.next_wake(),
            *(target.next_deadline() for target in self._targets.polled),
        ]
        sleep = min(time for time in times if time is not None) - self._clock.monotonic()
        due = self._recorder.due()
        if due is not None:
            sleep = min(sleep, due - self._clock.now(), COMMIT_WITHIN_S)
        return max(0.0, sleep)

    def _heartbeat(self, now: float) -> None:
        self._next_heartbeat = self._clock.monotonic() + HEARTBEAT_EVERY_S
        heard = self._ledger.heartbeat(self._started.run_id, now)
        if heard.cancel_requested:
            self._handle(messages.CancelRequested(heard.reason or CANCELLED_ELSEWHERE), now)
        for request in heard.cancel_steps:
            if request.node not in self._cancelled_steps:
                self._cancelled_steps.add(request.node)
                self._handle(messages.CancelRequested(request.reason or CANCELLED_ELSEWHERE, request.node), now)
        for node, facts in list(self._facts.items()) if heard.lost_tokens else ():
            if facts.token in heard.lost_tokens:
                facts.token = 0
                self._handle(messages.ClaimLost(node), now)
                self._landed(facts.key, node, now)

    # --- events from targets ------------------------------------------------------------------------------------

    def _take(self, event: TargetEvent, now: float) -> None:
        match event:
            case AttemptSucceeded():
                self._on_succeeded(event, now)
            case AttemptFailed():
                self._on_failed(event, now)
            case LogLine():
                self._recorder.line(event, now)
            case AttemptStarted():
                self._observers.seen(event)
                self._handle(messages.Started(event.attempt.node, event.attempt.number), now)
            case Progress():
                self._observers.seen(event)
            case _:
                assert_never(event)

    def _on_succeeded(self, event: AttemptSucceeded, now: float) -> None:
        node = self._roster.nodes[event.attempt.node]
        facts = self._facts[node.id]
        if event.attempt.number != self._state.attempts(node.id):
            return  # a late answer of an attempt that was given up
        facts.last = event
        facts.reused_from = None
        self._recorder.output_cached(node, event, facts, now)
        self._recorder.attempt_ended(event, self._roster.target_of[node.id], now)
        facts.token = 0
        self._landed(facts.key, node.id, now)
        if is_growth(event.output):
            self._handle(self._growing.returned(node, event.output, event.attempt.number, now), now)
        else:
            self._inputs.outputs[node.id] = event.output
            self._handle(messages.Succeeded(node.id, event.attempt.number), now)

    def _on_failed(self, event: AttemptFailed, now: float) -> None:
        node = self._roster.nodes[event.attempt.node]
        facts = self._facts[node.id]
        facts.last = event
        self._recorder.attempt_ended(event, self._roster.target_of[node.id], now)
        producers: tuple[str, ...] = ()
        if event.failure.kind is FailureKind.INPUT:
            producers = self._lost_inputs(node, event.failure.blobs)
        self._handle(messages.Failed(node.id, event.attempt.number, event.failure, producers), now)

    def _lost_inputs(self, node: StepNode, blobs: Iterable[str]) -> tuple[str, ...]:
        """Drop blobs that turned out to be unusable; return the nodes that must make them again."""
        _log.warning("step %r could not read its input: blobs missing or corrupt, they are made again", node.id)
        producers = self._inputs.producers_of(node, blobs)
        self._inputs.drop_blobs(blobs)
        if not producers:
            self._inputs.restore_constants(node)
        return producers

    # --- commands -----------------------------------------------------------------------------------------------

    def _handle(self, event: messages.Event, now: float) -> None:
        """Tell the state machine, and carry out what it answers; what follows from that waits for its turn."""
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                self._perform(self._state.handle(self._events.popleft(), self._clock.monotonic()), now)
        finally:
            self._handling = False

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
                    self._handle(self._growing.concluded(command.node), now)
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
            self._handle(self._growing.mapped(node, arguments, now), now)
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
        if warning:
            attempt = AttemptId(self._started.run_id, node.id, self._state.attempts(node.id) + 1)
            self._recorder.line(LogLine(attempt, "pipes", f"warning: step {node.id!r} {warning}", now), now)
            self._facts[node.id].note = warning
        self._handle(messages.ToDo(node.id), now)

    def _begin_effects(self, now: float) -> None:
        """Send the attempts at effects to their targets, once the ledger knows that they are about to begin."""
        if self._effects:
            self._recorder.exchange([], now)
            for command in self._effects.take():
                self._submit(command)

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
        self._handle(messages.Unresolvable(node.id, failure, producers), now)

    def _submit(self, command: messages.Submit) -> None:
        node = self._roster.nodes[command.node]
        assignment = self._assignments.of(node, self._facts[node.id], command.number, command.gpus)
        try:
            self._targets[command.target].submit(assignment)
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
            attempts=self._state.attempts(node) if is_step else None,
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
        self._status = command.status
        output: Artifact | None = None
        message = command.message
        if command.status is Status.SUCCEEDED and self._graph.output is not None:
            try:
                output = self._inputs.artifact(self._graph.output)
            except PipesError as error:
                self._status, message = Status.FAILED, f"the pipeline's output cannot be formed: {error}"
        self._recorder.add(RunEnded(self._started.run_id, self._status, now, output, message), now)

    # --- the ledger ---------------------------------------------------------------------------------------------

    def _exchange_all(self, now: float) -> None:
        """Ask the ledger until no answer leads to a further question."""
        while self._questions:
            for node, answer in self._questions.ask(now):
                self._on_answer(node, answer, now)

    def _on_answer(self, node: str, answer: Answer, now: float) -> None:
        facts = self._facts[node]
        match answer:
            case TokensGranted():
                self._handle(messages.Granted(node, answer.units), now)
            case TokensShort():
                self._handle(messages.Refused(node, shortage(answer, self._started.run_id)), now)
            case Hit():
                if not self._inputs.is_whole(answer.output):
                    _log.warning("the stored output of step %r is incomplete; it is made again", node)
                    self._perform([messages.LookUpNode(node, forget=True)], now)
                    return
                facts.reused_from = answer.step_run_id
                if is_growth(answer.output):
                    self._handle(self._growing.returned(self._roster.nodes[node], answer.output, None, now), now)
                else:
                    self._inputs.outputs[node] = answer.output
                    self._handle(messages.Known(node), now)
            case Claimed() if (twin := self._twins.join(facts.key, node)) is not None:
                self._handle(messages.HeldElsewhere(node, f"step {twin!r}"), now)
            case Claimed():
                facts.token = answer.token
                self._handle(messages.ToDo(node), now)
            case Held():
                self._handle(messages.HeldElsewhere(node, f"run {answer.run_id[:8]} on {answer.host}"), now)
            case Miss():
                raise InternalError(f"the ledger did not claim the key of {node!r} as asked")
            case _:
                assert_never(answer)
