"""The status of sub-pipelines and of the whole run, derived from that of their steps in one place."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.run import GOOD, Status


def derived_status(statuses: Iterable[Status]) -> Status:
    """Return the status of something made of steps that have all ended.

    Failed beats cancelled beats skipped beats good; reused when every step was.
    """
    seen = set(statuses)
    for bad in (Status.FAILED, Status.CANCELLED, Status.SKIPPED):
        if bad in seen:
            return bad
    return Status.REUSED if seen == {Status.REUSED} else Status.SUCCEEDED


class GroupProgress:
    """Counts what is still open in each sub-pipeline, at any depth. Cost of each call: O(depth)."""

    __slots__ = ("_ended", "_open", "_parent", "_started", "_step_group")

    def __init__(self, graph: Graph) -> None:
        self._parent = {group.id: group.group for group in graph.groups.values()}
        self._step_group = {node.id: node.group for node in graph.nodes.values() if node.group is not None}
        self._open = dict.fromkeys(self._parent, 0)
        self._ended: dict[str, list[Status]] = {group: [] for group in self._parent}
        self._started: set[str] = set()
        for parent in [*self._parent.values(), *self._step_group.values()]:
            if parent is not None:
                self._open[parent] += 1

    def empty(self) -> list[tuple[str, Status]]:
        """Return the sub-pipelines that hold nothing at all, as good from the beginning, inner ones first."""
        found: list[tuple[str, Status]] = []
        for group in [group for group, count in self._open.items() if count == 0]:
            found += self._close(group)
        return found

    def step_started(self, node: str) -> list[tuple[str, Status]]:
        """Return the sub-pipelines that are running from now on, outer ones first."""
        found: list[tuple[str, Status]] = []
        group = self._step_group.get(node)
        while group is not None and group not in self._started:
            self._started.add(group)
            found.insert(0, (group, Status.RUNNING))
            group = self._parent[group]
        return found

    def step_ended(self, node: str, status: Status) -> list[tuple[str, Status]]:
        """Return the sub-pipelines that have ended with this step, inner ones first."""
        group = self._step_group.get(node)
        return [] if group is None else self._child_ended(group, status)

    def _child_ended(self, group: str, status: Status) -> list[tuple[str, Status]]:
        self._open[group] -= 1
        self._ended[group].append(status)
        return self._close(group) if self._open[group] == 0 else []

    def step_reopened(self, node: str, status: Status) -> None:
        """Take back that a step had ended with *status*: its output was lost and is made again."""
        group = self._step_group.get(node)
        while group is not None:
            was_open = self._open[group] > 0
            self._open[group] += 1
            self._ended[group].remove(status)
            if was_open:
                return
            status = derived_status([*self._ended[group], status])
            group = self._parent[group]

    def _close(self, group: str) -> list[tuple[str, Status]]:
        status = derived_status(self._ended[group])
        parent = self._parent[group]
        return [(group, status), *([] if parent is None else self._child_ended(parent, status))]


def run_status(statuses: Iterable[Status], cancel_requested: bool, timed_out: bool) -> Status:
    """Return how a run ends whose steps have all ended."""
    seen = set(statuses)
    if timed_out or Status.FAILED in seen:
        return Status.FAILED
    if cancel_requested and not seen <= GOOD:
        return Status.CANCELLED
    return Status.SUCCEEDED
