"""Other runs that compute what steps of this one wait for: said once for each of those runs, noted on every step."""

from __future__ import annotations

from mlflow_pipes.model.run import Held


class Awaited:
    """Which step waits for which run."""

    def __init__(self) -> None:
        self._runs: dict[str, str] = {}
        self._said: set[tuple[str, str]] = set()

    def wait(self, node: str, held: Held) -> str:
        """Take that a step waits for a run; return what is worth saying of it, empty for nothing."""
        self._runs[node] = held.run_id
        told = f"waits for run {held.run_id[:8]} on {held.host}, which is computing the same"
        return told if self._is_first("waits", held.run_id) else ""

    def take_over(self, node: str) -> tuple[str, str]:
        """Take that the key of a step is free; return the note for the step, and what is worth saying; may be empty."""
        run_id = self._runs.pop(node, None)
        if run_id is None:
            return "", ""
        note = f"run {run_id[:8]} ended without its result, so it is computed here"
        return note, f"waits no more: {note}" if self._is_first("takes over", run_id) else ""

    def came(self, node: str) -> None:
        """Take that the result of a step is there."""
        self._runs.pop(node, None)

    def _is_first(self, what: str, run_id: str) -> bool:
        first = (what, run_id) not in self._said
        self._said.add((what, run_id))
        return first
