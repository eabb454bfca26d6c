"""What becomes of attempts, arguments and returned calls in a simulated run: what the workers and stores of it do."""

from __future__ import annotations

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.scheduling.messages import Concluded, Failed, Grew, Succeeded, Unresolvable
from mlflow_pipes.testing.laws import Witness
from mlflow_pipes.testing.scenarios import Scenario, Task
from mlflow_pipes.testing.simulated_ledger import SimulatedLedger


def key_of(task: Task) -> str:
    """Return the key of a task's work."""
    return task.key or task.name


class Fate:
    """Decides by the scenario's chance, and by which outputs are gone.

    Attributes:
        tasks: of the run, by name, also those that were returned.
        grown: names of the calls that each node returned.
    """

    def __init__(self, scenario: Scenario, run: str, ledger: SimulatedLedger, witness: Witness) -> None:
        self.tasks = {task.name: task for task in scenario.tasks}
        self.grown: dict[str, set[str]] = {}
        self._scenario = scenario
        self._run = run
        self._ledger = ledger
        self._witness = witness

    def of_attempt(self, task: Task, number: int) -> Succeeded | Grew | Failed:
        """Return how an attempt ends that begins now."""
        node, faults = task.name, self._scenario.faults
        makers = self._makers(task) if faults.lose else []
        gone = [maker for maker in makers if key_of(self.tasks[maker]) in self._ledger.gone]
        if not gone and self._scenario.befalls(faults.lost_input, self._run, "lost input", node, number):
            gone = self._lose(makers, node, number)
            if not gone:
                return Failed(node, number, Failure(FailureKind.INPUT, "a constant is gone"))
        if gone:
            return Failed(node, number, Failure(FailureKind.INPUT, "input gone"), tuple(gone))
        chance = self._scenario.chance(self._run, "attempt", node, number)
        if chance < faults.fail:
            return Failed(node, number, Failure(FailureKind.EXCEPTION, "boom", ("ValueError", "Exception")))
        if chance < faults.fail + faults.lost:
            return Failed(node, number, Failure(FailureKind.LOST, "worker died"))
        return self.growth(node, number) or Succeeded(node, number)

    def _makers(self, task: Task) -> list[str]:
        """Return the nodes whose outputs a task reads, of steps that returned calls the calls."""
        waiting = list(task.parents)
        found: set[str] = set()
        while waiting:
            node = waiting.pop()
            if node in self.grown:
                waiting += self.grown[node]
            elif self._witness.was_good(node):
                found.add(node)
        return sorted(found)

    def _lose(self, makers: list[str], *about: object) -> list[str]:
        lost = [maker for maker in makers if self._scenario.chance(self._run, "which", maker, *about) < 0.5] or makers[
            :1
        ]
        self._ledger.gone.update(key_of(self.tasks[maker]) for maker in lost)
        return lost

    def of_arguments(self, task: Task, number: int) -> Unresolvable:
        """Return why arguments cannot be formed."""
        lost = self._lose(self._makers(task), task.name, number)
        kind = FailureKind.INPUT if lost else FailureKind.EXCEPTION
        return Unresolvable(task.name, Failure(kind, "its arguments cannot be formed"), tuple(lost))

    def growth(self, node: str, number: int | None) -> Grew | None:
        """Return that a node returned calls, if it does."""
        calls = self._scenario.calls_of(node, key_of(self.tasks[node]))
        if calls is None:
            return None
        tasks, groups = calls
        self.tasks.update({task.name: task for task in tasks})
        return Grew(
            node,
            number,
            {task.name: task.node() for task in tasks},
            {group.id: group for group in groups},
            {task.name: task.target for task in tasks},
            {},
            reused=number is None,
        )

    def of_conclusion(self, node: str) -> Concluded:
        """Return what comes of the calls that a node returned, which have ended."""
        bad = [name for name in self.grown[node] if not self._witness.is_good(name)]
        return Concluded(node, Failure(FailureKind.INNER, f"its output needs {min(bad)}") if bad else None)
