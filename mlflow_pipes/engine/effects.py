"""Effects, the steps that are done once for each call and never reused: what came before, and what is about to begin.

An effect is told to the ledger before it is sent to its target. So whatever dies, the ledger shows each effect that
may have happened.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.model.resumption import EffectDone, Resumption
from mlflow_pipes.scheduling.messages import Submit


def is_effect(node: StepNode) -> bool:
    """Tell whether each call of the step is to be done once; exit hooks are another matter: once a run."""
    return node.step.reuse == "never" and node.hook is None


class Effects:
    """The effects of one run.

    Args:
        resumption: what the run takes over from those that it resumes; None when it resumes none.
    """

    def __init__(self, resumption: Resumption | None) -> None:
        self._resumption = resumption
        self._intents: dict[str, Submit] = {}

    def done(self, node: StepNode, key: str) -> EffectDone | None:
        """Return the effect of this call, when it has happened in a run that this one resumes."""
        if self._resumption is None or not is_effect(node):
            return None
        return self._resumption.done.get((node.id, key))

    def warning(self, node: StepNode, key: str) -> str:
        """Return what must be said before this call's effect is begun; empty for nothing."""
        if self._resumption is None or not is_effect(node):
            return ""
        before = self._resumption.unknown.get((node.id, key))
        if before is None:
            return ""
        return f"may have happened in run {before[:8]} already; it is done again, with the same idempotency key"

    def intend(self, command: Submit) -> None:
        """Hold an attempt back until the ledger has been told of it."""
        self._intents[command.node] = command

    def withdraw(self, node: str) -> Submit | None:
        """Take back an attempt that was held back and is not wanted any more."""
        return self._intents.pop(node, None)

    def take(self) -> Sequence[Submit]:
        """Return the attempts that were held back; from now on they are not."""
        intents, self._intents = list(self._intents.values()), {}
        return intents

    def __bool__(self) -> bool:
        """Whether anything is held back."""
        return bool(self._intents)
