"""Whose turn it is: in limited containers, then in the target's room, then for what all runs share."""

from __future__ import annotations

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tokens import Units
from mlflow_pipes.scheduling.board import Board
from mlflow_pipes.scheduling.messages import Changed, Command, Granted, Refused, ReturnTokens, Submit, TokensCame


class Turns:
    """Begins a board's queued nodes, the first by rank first."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def enqueue(self, node: str) -> list[Command]:
        """Have a node wait for its turn, and begin it if that has come."""
        board = self._board
        board.status[node] = Status.QUEUED
        commands: list[Command] = []
        if board.admission.admit(node, board.rank[node]):
            commands = self._offer(node)
        return commands if board.status[node] is Status.RUNNING else [Changed(node, Status.QUEUED), *commands]

    def _offer(self, node: str) -> list[Command]:
        board = self._board
        target = board.target_of[node]
        board.rooms[target].offer(node, board.rank[node], board.nodes[node].options)
        return self.fill(target)

    def offer_waiting(self) -> list[Command]:
        """Begin what was let into limited containers, or may ask for tokens, since something else has ended."""
        board = self._board
        commands: list[Command] = []
        while board.to_offer:
            node = board.to_offer.popleft()
            if board.status[node] is Status.QUEUED:
                commands += self._offer(node)
        return commands

    def fill(self, target: str) -> list[Command]:
        """Begin what a target has room for."""
        board = self._board
        commands: list[Command] = []
        room = board.rooms[target]
        while not board.stopping and (node := room.take()) is not None:
            if not self._may_begin(node):
                commands += self._leave_unbegun(node)
            elif board.tokens.needs(node):
                commands += self._ask_for_tokens(node)
            else:
                commands += self._begin(node, room.gpus_of(node))
        return commands

    def _may_begin(self, node: str) -> bool:
        board = self._board
        return board.status[node] is Status.QUEUED and node not in board.taken_over and not board.stopping

    def _leave_unbegun(self, node: str) -> list[Command]:
        """Free the room of a step that was cancelled while it waited for it, or whose key was taken over."""
        board = self._board
        commands = board.leave_room(node)
        if board.tokens.needs(node):
            commands += board.forget_tokens(node)
        if board.status[node] is not Status.QUEUED:
            return commands
        board.leave_containers(node)
        return commands + board.look_up(node)

    def _begin(self, node: str, gpus: tuple[int, ...]) -> list[Command]:
        board = self._board
        board.status[node] = Status.RUNNING
        number = board.number[node] = board.number.get(node, 0) + 1
        if number == 1:
            board.start_total(node)
        submit = Submit(node, number, board.target_of[node], gpus)
        return [submit, Changed(node, Status.RUNNING), *board.containers_started(node)]

    def _ask_for_tokens(self, node: str) -> list[Command]:
        """Ask for the tokens of a step that has room, or have it wait with those that ask for the same."""
        board = self._board
        ask = board.tokens.ask(node, board.rank[node], board.now)
        if ask is not None:
            return [*self._withdraw(), ask]
        board.rooms[board.target_of[node]].release(node)
        reason = board.tokens.reason(node)
        return [Changed(node, Status.QUEUED, reason)] if reason else []

    def take_answer(self, answer: Granted | Refused) -> list[Command]:
        """Begin a step that has room and was given its tokens; else have it wait, its room is for others then."""
        board = self._board
        node = answer.node
        if not board.tokens.answered(node):
            return []
        target = board.target_of[node]
        if not self._may_begin(node):
            return [*self._leave_unbegun(node), *self.fill(target)]
        if isinstance(answer, Granted):
            return self._begin_with_tokens(node, answer.units)
        news = board.tokens.refused(node, board.rank[node], answer.reason, board.now)
        board.rooms[target].release(node)
        told: list[Command] = [Changed(node, Status.QUEUED, answer.reason)] if news else []
        return self._withdraw() + told + self.fill(target)

    def _begin_with_tokens(self, node: str, units: Units) -> list[Command]:
        board = self._board
        waited_s = board.tokens.given(node, board.now)
        came: list[Command] = [TokensCame(node, waited_s, board.tokens.amounts(node))] if waited_s > 0 else []
        board.ask_next(board.tokens.next_after(node))
        shared_gpus = tuple([unit for some in units.values() for unit in some])
        return came + self._begin(node, shared_gpus or board.rooms[board.target_of[node]].gpus_of(node))

    def _withdraw(self) -> list[Command]:
        return [ReturnTokens(node) for node in self._board.tokens.take_withdrawn()]

    def ask_again(self) -> None:
        """Have those ask for tokens again whose time has come."""
        board = self._board
        board.to_offer += board.tokens.due(board.now)

    def resize(self, name: str, capacity: Capacity) -> list[Command]:
        """Take in that a target holds more or less, and begin what it has room for now."""
        self._board.rooms[name].resize(capacity)
        self._board.tokens.add_target(name, capacity)
        return self.fill(name)
