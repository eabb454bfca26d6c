"""Outputs that were lost are made again, and who needed them tries once more."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.run import ENDED, GOOD, Status
from mlflow_pipes.scheduling.board import Board
from mlflow_pipes.scheduling.messages import Changed, Command, Release

RECOVERIES_AT_MOST = 3
"""How often one step may find an input lost and have it made again."""


class Recovery:
    """Moves of a board's nodes back to where they wait."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._recoveries: dict[str, int] = {}

    def may_help(self, node: str, failure: Failure, producers: Sequence[str]) -> bool:
        """Tell whether making the outputs of *producers* again may help a node that could not read its inputs."""
        if failure.kind is not FailureKind.INPUT or self._recoveries.get(node, 0) >= RECOVERIES_AT_MOST:
            return False
        needed = [*self._board.dependencies.required(node), *producers]
        for producer in producers:
            container = self._board.containers.grown_around(producer)
            while container is not None:
                needed.append(container)
                container = self._board.containers.grown_around(container)
        return not any(self._has_ended_badly(one) for one in needed)

    def begin(self, node: str, producers: Sequence[str]) -> list[Command]:
        """Have lost inputs made again, then try *node* again; without producers they were constants, stored anew."""
        board = self._board
        self._recoveries[node] = self._recoveries.get(node, 0) + 1
        commands: list[Command] = []
        if node in board.claimed:
            board.claimed.discard(node)
            commands.append(Release(node))
        board.leave_containers(node)  # what is made again may need its place
        board.timers.let_go(node)
        board.status[node] = Status.WAITING
        commands.append(Changed(node, Status.WAITING, "an input was lost and is made again"))
        for producer in producers:
            if board.status[producer] in GOOD:
                commands += self._reopen(producer)
        for producer in producers:
            if board.status[producer] is Status.WAITING:
                commands += self._wait_again(producer)
        if board.status[node] is Status.WAITING:
            commands += self._wait_again(node, producers)
        return commands

    def _reopen(self, producer: str) -> list[Command]:
        """Have a step make its output again; steps that returned it are not over, then."""
        board = self._board
        board.forget.add(producer)
        commands: list[Command] = []
        opened: str | None = producer
        while opened is not None:
            before = board.status[opened]
            board.open += 1
            board.status[opened] = Status.WAITING if opened == producer else Status.RUNNING
            commands.append(Changed(opened, board.status[opened], "its output was lost"))
            opened = board.containers.step_reopened(opened, before)
        return commands

    def _wait_again(self, node: str, producers: Sequence[str] = ()) -> list[Command]:
        """Have a node wait for those of its parents, and of *producers*, that are made again."""
        board = self._board
        needed = board.dependencies.required(node).union(producers)
        lost = sorted(parent for parent in needed if self._has_ended_badly(parent))
        if lost:  # what it needs was to be made again, too, and could not be
            commands = board.end(node, Status.SKIPPED, f"upstream step {lost[0]!r} failed")
            return commands + board.skip_below(node, "was skipped")
        missing = {
            parent
            for parent in board.dependencies.parents(node).union(producers)
            if board.status[parent] not in GOOD
            and not (board.status[parent] in ENDED and board.dependencies.tolerates(node, parent))
        }
        return board.look_up(node) if board.dependencies.wait_again(node, missing) else []

    def _has_ended_badly(self, node: str) -> bool:
        """Tell whether a node will have no output."""
        return self._board.status[node] in ENDED and self._board.status[node] not in GOOD
