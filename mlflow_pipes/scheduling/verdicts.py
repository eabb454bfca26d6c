"""What is stopped on purpose: a step, a sub-pipeline or the whole run, on request or because it is out of time."""

from __future__ import annotations

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.blame import group_out_of_time, step_out_of_time
from mlflow_pipes.model.run import ENDED, Status
from mlflow_pipes.scheduling.board import Board
from mlflow_pipes.scheduling.messages import CancelAttempt, CancelRequested, Command
from mlflow_pipes.scheduling.timers import RUN


class Verdicts:
    """Ends a board's nodes before their time; of what runs, the verdict waits for its attempt or all inside to end.

    Args:
        board: where the nodes stand.
        timeout_s: how long the run may take, None for as long as it likes.

    Attributes:
        requested: somebody asked for the end of the whole run.
        timed_out: the whole run is out of time.
    """

    def __init__(self, board: Board, timeout_s: float | None) -> None:
        self.requested = self.timed_out = False
        self._board = board
        self._timeout_s = timeout_s
        self._verdicts: dict[str, Failure] = {}

    def begin(self) -> None:
        """Count the run's time from now on."""
        if self._timeout_s is not None:
            self._board.timers.end_by(self._board.now + self._timeout_s, RUN)

    def request(self, event: CancelRequested) -> list[Command]:
        """Stop what somebody asks to have stopped."""
        if event.node is None:
            self.requested = True
            return self._board.stop(event.reason)
        return self._stop_inside(event.node, Failure(FailureKind.CANCELLED, event.reason))

    def out_of_time(self, name: str) -> list[Command]:
        """Stop a step, a sub-pipeline or the run, whose time is over."""
        if name == RUN:
            self.timed_out = True
            return self._board.stop(f"the run is past its timeout of {self._timeout_s:g} s")
        if name in self._board.groups:
            why = group_out_of_time(name, self._board.groups[name].timeout_s or 0.0)
        else:
            why = step_out_of_time(name, self._board.nodes[name].options.total_timeout_s or 0.0)
        return self._stop_inside(name, Failure(FailureKind.TIMEOUT, why))

    def _stop_inside(self, name: str, verdict: Failure) -> list[Command]:
        """End a step or sub-pipeline with all that is in it."""
        commands: list[Command] = []
        is_inside = self._board.containers.is_inside
        for node in [node for node in self._board.status if node == name or is_inside(node, name)]:
            status = self._board.status[node]
            if status is Status.RUNNING:
                self._verdicts[node] = verdict
                if not self._board.containers.is_grown(node):
                    commands.append(CancelAttempt(node, self._board.number[node], self._board.target_of[node]))
            elif status not in ENDED:
                commands += self.carry_out(node, verdict)
        return commands

    def take(self, node: str) -> Failure | None:
        """Return why a node that ran was stopped, None if it was not; asked when it has ended, and forgotten then."""
        return self._verdicts.pop(node, None)

    def carry_out(self, node: str, verdict: Failure) -> list[Command]:
        """End a node that was stopped on purpose."""
        if verdict.kind is not FailureKind.CANCELLED:
            return self._board.give_up(node, verdict)
        if self._board.status[node] in ENDED:
            return []
        return [
            *self._board.end(node, Status.CANCELLED, verdict.message),
            *self._board.skip_below(node, "was cancelled"),
        ]

    def end_with_run(self, node: str, failure: Failure) -> list[Command]:
        """End a node, the attempt of which failed when the whole run was stopped."""
        if failure.kind in {FailureKind.CANCELLED, FailureKind.INPUT, FailureKind.LOST}:
            return self._board.end(node, Status.CANCELLED, self._board.message)
        return self._board.end(node, Status.FAILED, failure.message, failure)
