"""The keys of a run's steps: looked up in the cache, claimed by the run or awaited from others, and given back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias, assert_never

from mlflow_pipes.engine.awaited import Awaited
from mlflow_pipes.engine.effects import Effects
from mlflow_pipes.engine.growing import Growing
from mlflow_pipes.engine.growths import is_growth
from mlflow_pipes.engine.inputs import Inputs
from mlflow_pipes.engine.questions import Questions
from mlflow_pipes.engine.recorder import NodeFacts, Recorder
from mlflow_pipes.engine.roster import Roster
from mlflow_pipes.engine.twins import Twins
from mlflow_pipes.errors import InternalError, PipesError, WorldError
from mlflow_pipes.model.artifact import Artifact
from mlflow_pipes.model.attempt import AttemptId, Failure, FailureKind, LogLine
from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.model.run import CacheAnswer, Claimed, EntryForgotten, Held, Hit, KeyReleased, Miss
from mlflow_pipes.scheduling.keys import action_key
from mlflow_pipes.scheduling.messages import ClaimLost, Event, HeldElsewhere, Known, LookUpNode, ToDo, Unresolvable

Tell: TypeAlias = Callable[[Event, float], None]

_log = logging.getLogger(__name__)


class Claims:
    """Who computes the keys of one run's steps.

    Args:
        run_id: of the run.
        attempts: gives the number of a node's newest attempt, 0 before the first.
        roster, inputs, recorder, effects, growing, questions: of the run.
        tell: takes events for the state machine, and the time.

    Attributes:
        facts: what is known of each node since it was first looked up.
    """

    def __init__(
        self,
        run_id: str,
        attempts: Callable[[str], int],
        roster: Roster,
        inputs: Inputs,
        recorder: Recorder,
        effects: Effects,
        growing: Growing,
        questions: Questions,
        tell: Tell,
    ) -> None:
        self.facts: dict[str, NodeFacts] = {}
        self._run_id = run_id
        self._attempts = attempts
        self._roster = roster
        self._inputs = inputs
        self._recorder = recorder
        self._effects = effects
        self._growing = growing
        self._questions = questions
        self._tell = tell
        self._twins = Twins()
        self._awaited = Awaited()

    # --- asking ---------------------------------------------------------------------------------------------------

    def look_up(self, command: LookUpNode, now: float) -> None:
        """Form a node's arguments and key, and have it asked whether the output is known."""
        node = self._roster.nodes[command.node]
        known = self.facts.get(node.id)
        if command.forget and known is not None:
            self._recorder.add(EntryForgotten(known.key), now)
        try:
            arguments = self._inputs.arguments(node)
        except PipesError as error:
            self._unresolvable(node, error, now)
            return
        if node.maps is not None:
            self.facts[node.id] = NodeFacts()
            self._tell(self._growing.mapped(node, arguments, now), now)
            return
        inputs = {name: artifact.identity for name, artifact in arguments.items()}
        key = action_key(node.step.code.digest, inputs)
        self.facts[node.id] = NodeFacts(key=key, inputs=inputs, arguments=arguments)
        if node.step.reuse == "never":
            self._look_up_effect(node, key, now, lost=command.forget)
        else:
            self._questions.look_up(node.id, key, node.step.max_age_s)

    def _look_up_effect(self, node: StepNode, key: str, now: float, *, lost: bool) -> None:
        done = None if lost else self._effects.done(node, key)
        if done is not None:
            self.facts[node.id].note = f"it happened in run {done.run_id[:8]}, which this one resumes"
            self._hit(node.id, done.output, done.step_run_id, now)
            return
        warning = self._effects.warning(node, key)
        self.facts[node.id].note = warning
        self._say(node.id, warning and f"warning: it {warning}", now)
        self._tell(ToDo(node.id), now)

    def _unresolvable(self, node: StepNode, error: PipesError, now: float) -> None:
        producers: tuple[str, ...] = ()
        kind = FailureKind.EXCEPTION
        if isinstance(error, WorldError):
            kind = FailureKind.INPUT
            producers = self._inputs.incomplete_producers(node)
        failure = Failure(kind, f"the arguments of step {node.id!r} cannot be formed: {error}")
        self.facts.setdefault(node.id, NodeFacts())
        self._tell(Unresolvable(node.id, failure, producers), now)

    # --- answers --------------------------------------------------------------------------------------------------

    def answered(self, node: str, answer: CacheAnswer, now: float) -> None:
        """Take what the ledger knows of a node's key."""
        match answer:
            case Hit():
                self._hit(node, answer.output, answer.step_run_id, now)
            case Claimed() if (twin := self._twins.join(self.facts[node].key, node)) is not None:
                self._tell(HeldElsewhere(node, f"step {twin!r}"), now)
            case Claimed():
                facts = self.facts[node]
                facts.token = answer.token
                facts.note, told = self._awaited.take_over(node)
                self._say(node, told, now)
                self._tell(ToDo(node), now)
            case Held():
                self._say(node, self._awaited.wait(node, answer), now)
                self._tell(HeldElsewhere(node, f"run {answer.run_id[:8]} on {answer.host}"), now)
            case Miss():
                raise InternalError(f"the ledger did not claim the key of {node!r} as asked")
            case _:
                assert_never(answer)

    def _hit(self, node: str, output: Artifact, step_run_id: str, now: float) -> None:
        if not self._inputs.is_whole(output):
            _log.warning("the stored output of step %r is incomplete; it is made again", node)
            self.look_up(LookUpNode(node, forget=True), now)
            return
        self.facts[node].reused_from = step_run_id
        self._awaited.came(node)
        if is_growth(output):
            self._tell(self._growing.returned(self._roster.nodes[node], output, None, now), now)
        else:
            self._inputs.outputs[node] = output
            self._tell(Known(node), now)

    def _say(self, node: str, text: str, now: float) -> None:
        """Say something about a step where its output is seen; nothing for an empty text."""
        if text:
            attempt = AttemptId(self._run_id, node, self._attempts(node) + 1)
            self._recorder.line(LogLine(attempt, "pipes", text, now), now)

    # --- giving back ----------------------------------------------------------------------------------------------

    def end(self, node: str, now: float) -> None:
        """Hold a node's key no longer; steps of this run that waited for its output look again."""
        facts = self.facts[node]
        facts.token = 0
        self._land(facts.key, node, now)

    def _land(self, key: str, node: str, now: float) -> None:
        for waiting in self._twins.land(key, node):
            self.look_up(LookUpNode(waiting), now)

    def release(self, node: str, now: float) -> None:
        """Give a node's key back to whoever wants it, if this run holds it."""
        facts = self.facts[node]
        if facts.token:
            self._recorder.add(KeyReleased(facts.key, facts.token), now)
            self.end(node, now)

    def lost(self, tokens: Iterable[int], now: float) -> None:
        """Have steps looked up again whose claims, with these fencing tokens, other runs have taken over."""
        taken = set(tokens)
        for node, facts in list(self.facts.items()) if taken else ():
            if facts.token in taken:
                facts.token = 0
                self._tell(ClaimLost(node), now)
                self._land(facts.key, node, now)
