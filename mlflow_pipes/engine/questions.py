"""What a run asks the ledger in one turn: about keys, and for tokens."""

from __future__ import annotations

from mlflow_pipes.engine.recorder import Recorder
from mlflow_pipes.model.run import Answer, LookUp, Question
from mlflow_pipes.model.tokens import TokenRequest
from mlflow_pipes.scheduling.messages import AskTokens


class Questions:
    """The questions of one run that were not asked yet. Empty ones are false.

    Args:
        run_id: of the run.
        priority: the run's.
        recorder: asks them.
    """

    def __init__(self, run_id: str, priority: int, recorder: Recorder) -> None:
        self._run_id = run_id
        self._priority = priority
        self._recorder = recorder
        self._lookups: dict[str, Question] = {}
        self._requests: dict[str, Question] = {}

    def __bool__(self) -> bool:
        return bool(self._lookups or self._requests)

    def look_up(self, node: str, key: str, max_age_s: float | None) -> None:
        """Ask whether the output of a node's key is known."""
        self._lookups[node] = LookUp(key, self._run_id, max_age_s=max_age_s)

    def request(self, asked: AskTokens, step_priority: int) -> None:
        """Ask for the tokens of a node."""
        self._requests[asked.node] = TokenRequest(
            run_id=self._run_id,
            node=asked.node,
            amounts=asked.amounts,
            limits=asked.limits,
            numbered=asked.numbered,
            priority=self._priority,
            step_priority=step_priority,
            waited_s=asked.waited_s,
        )

    def ask(self, now: float) -> list[tuple[str, Answer]]:
        """Ask all of them in one exchange, and return each node with its answer."""
        lookups, self._lookups = self._lookups, {}
        requests, self._requests = self._requests, {}
        questions = [*lookups.values(), *requests.values()]
        answers = self._recorder.exchange(questions, now) if requests else self._recorder.ask(questions, now)
        return list(zip([*lookups, *requests], answers, strict=True))
