"""What holds steps: sub-pipelines, and steps that returned calls. Their status is derived from what they hold, here.

A sub-pipeline ends with the last thing in it. A step that returned calls does not: when they have ended, its output is
still to be put together from theirs (see ``RunState``), and then it ends as every step does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_pipes.model.blame import inner_failure
from mlflow_pipes.model.graph import GroupNode, StepNode
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


class Containers:
    """Counts what is still open in each container, at any depth. Cost of each call: O(depth)."""

    __slots__ = ("_around", "_ended", "_first_bad", "_grown", "_open", "_started")

    def __init__(self) -> None:
        self._around: dict[str, str] = {}  # what a step, sub-pipeline or grown step stands in
        self._open: dict[str, int] = {}
        self._ended: dict[str, dict[Status, int]] = {}
        self._started: set[str] = set()
        self._grown: set[str] = set()
        self._first_bad: dict[str, str] = {}

    def add(
        self, groups: Mapping[str, GroupNode], nodes: Mapping[str, StepNode], grown: str | None = None
    ) -> list[tuple[str, Status]]:
        """Add containers and what is in them; *grown* is the step that returned them.

        Returns the containers that hold nothing at all and so have ended, inner ones first.
        """
        new = [] if grown is None else [grown]
        if grown is not None:
            self._grown.add(grown)
        new += groups
        for container in new:
            self._open[container] = 0
            self._ended[container] = {}
        members: list[GroupNode | StepNode] = [*groups.values(), *nodes.values()]
        for member in members:
            if member.group is not None:
                self._around[member.id] = member.group
                self._open[member.group] += 1
        found: list[tuple[str, Status]] = []
        for container in [container for container in new if self._open[container] == 0]:
            found += self._close(container)
        return found

    def around(self, node: str) -> str | None:
        """Return what a step or container stands in."""
        return self._around.get(node)

    def is_grown(self, node: str) -> bool:
        """Tell whether a step has returned calls that stand in its place."""
        return node in self._grown

    def is_inside(self, node: str, container: str) -> bool:
        """Tell whether something stands in a container, at any depth."""
        around = self._around.get(node)
        while around is not None and around != container:
            around = self._around.get(around)
        return around is not None

    def is_open(self, container: str) -> bool:
        """Tell whether something in a container has not ended."""
        return self._open[container] > 0

    def all_reused(self, container: str) -> bool:
        """Tell whether everything in a container that has ended was reused."""
        return not self._ended[container].keys() - {Status.REUSED}

    def first_bad(self, grown: str) -> str:
        """Return in words what was the first to end badly among the calls that a step returned."""
        return self._first_bad.get(grown, "a step in it did not end well")

    def grown_around(self, node: str) -> str | None:
        """Return the innermost step that returned the call, or the sub-pipeline that it stands in."""
        container = self._around.get(node)
        while container is not None and container not in self._grown:
            container = self._around.get(container)
        return container

    def step_started(self, node: str) -> list[str]:
        """Return the sub-pipelines that are running from now on, outer ones first."""
        found: list[str] = []
        container = self._around.get(node)
        while container is not None and container not in self._started:
            self._started.add(container)
            if container not in self._grown:
                found.insert(0, container)
            container = self._around.get(container)
        return found

    def step_ended(self, node: str, status: Status) -> list[tuple[str, Status]]:
        """Return the containers that have ended with this step, inner ones first; the last may be a grown step."""
        container = self._around.get(node)
        if container is None:
            return []
        if status not in GOOD:
            grown = self.grown_around(node)
            if grown is not None:
                self._first_bad.setdefault(grown, inner_failure(node, status))
        return self._member_ended(container, status)

    def _member_ended(self, container: str, status: Status) -> list[tuple[str, Status]]:
        self._open[container] -= 1
        ended = self._ended[container]
        ended[status] = ended.get(status, 0) + 1
        return self._close(container) if self._open[container] == 0 else []

    def step_reopened(self, node: str, status: Status) -> str | None:
        """Take back that a step had ended with *status*; return the grown step that is open again with it, if any."""
        container = self._around.get(node)
        while container is not None:
            before = derived_status(self._ended[container])
            was_open = self._open[container] > 0
            self._open[container] += 1
            ended = self._ended[container]
            ended[status] -= 1
            if not ended[status]:
                del ended[status]
            if was_open:
                return None
            if container in self._grown:
                return container
            status = before
            container = self._around.get(container)
        return None

    def _close(self, container: str) -> list[tuple[str, Status]]:
        found: list[tuple[str, Status]] = []
        closing: str | None = container
        while closing is not None:
            status = derived_status(self._ended[closing])
            found.append((closing, status))
            outer = None if closing in self._grown else self._around.get(closing)
            closing = None
            if outer is not None:
                self._open[outer] -= 1
                ended = self._ended[outer]
                ended[status] = ended.get(status, 0) + 1
                if self._open[outer] == 0:
                    closing = outer
        return found


def run_status(bad: Iterable[Status], cancel_requested: bool, timed_out: bool) -> Status:
    """Return how a run ends whose steps have all ended.

    Args:
        bad: the statuses, not good, of steps whose end is not tolerated.
        cancel_requested: somebody wanted it to stop.
        timed_out: it took too long.
    """
    seen = set(bad) - GOOD
    if timed_out or Status.FAILED in seen:
        return Status.FAILED
    return Status.CANCELLED if Status.CANCELLED in seen or (cancel_requested and seen) else Status.SUCCEEDED
