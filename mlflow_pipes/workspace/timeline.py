"""When the steps of a run were where, for its critical path and the waits of its steps; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_pipes.model.run import Status
from mlflow_pipes.scheduling.critical_path import Link, Timed, critical_path
from mlflow_pipes.workspace.waiting import WORTH_TELLING_S, StepTimes

if TYPE_CHECKING:
    from mlflow_pipes.workspace.records import StepRun

_WHOLE = "\0"
"""Stands after the id of a step that returned calls, for the step with these; no id holds it."""


def timeline(children: Sequence[StepRun], attempts: Mapping[str, Sequence[tuple[float, float]]]) -> list[StepTimes]:
    """Return when the steps of a run were where, those that returned calls taken apart.

    Such a step stands for its own work, which its calls wait for; and once more, with its calls, for what others wait
    for (``id_of`` gives its id back).

    Args:
        children: of the run, in the order declared.
        attempts: (start, end) of the ended attempts of each, by the step run's id.
    """
    returned_by = _returned_by(children)
    grown: dict[str, list[str]] = {}
    for node, maker in returned_by.items():
        grown.setdefault(maker, []).append(node)
    found: list[StepTimes] = []
    for child in children:
        if child.kind != "step":
            continue
        times = _step_times(child, attempts.get(child.id, ()))
        parents = [_whole(parent, grown) for parent in times.parents]
        if child.node in returned_by:
            parents.append(returned_by[child.node])
        times = replace(times, parents=tuple(parents))
        found += _apart(times, [_whole(node, grown) for node in grown[child.node]]) if child.node in grown else [times]
    return found


def id_of(node: str) -> str:
    """Return the id of the node that a name in a timeline stands for."""
    return node.removesuffix(_WHOLE)


def path_of(steps: Iterable[StepTimes], begin: float, now: float) -> tuple[Link, ...]:
    """Return the critical path of a run; of one that is under way the path so far, to *now* where a step runs."""
    timed = [
        Timed(
            step.node,
            step.parents,
            "" if step.status is Status.REUSED else step.target,
            step.start,
            now if step.end is None else step.end,
        )
        for step in steps
        if step.start is not None
    ]
    return tuple(_without_wholes(critical_path(timed, begin, least_wait_s=WORTH_TELLING_S)))


def _without_wholes(path: Sequence[Link]) -> Iterable[Link]:
    """Yield the links of steps themselves; what an output took to be put together from calls' is waited for."""
    waited_s = 0.0
    above: str | None = None
    for link in path:
        if link.node.endswith(_WHOLE) and link is not path[-1]:
            waited_s += link.waited_s + link.took_s
            continue
        yield replace(link, node=id_of(link.node), waited_s=link.waited_s + waited_s, after=above)
        waited_s, above = 0.0, id_of(link.node)


def _step_times(step: StepRun, attempts: Sequence[tuple[float, float]]) -> StepTimes:
    start = attempts[0][0] if attempts else None if step.started_at is None else step.started_at.timestamp()
    end = None if step.ended_at is None else step.ended_at.timestamp()
    return StepTimes(step.node, step.status, step.parents, step.target, start, end, tuple(attempts))


def _apart(step: StepTimes, calls: Iterable[str]) -> list[StepTimes]:
    """Return a step's own work, and the step with all its calls."""
    if step.attempts:
        own = replace(step, status=Status.SUCCEEDED, end=step.attempts[-1][1])
    else:  # a map, or calls that were known
        own = replace(step, status=Status.REUSED, end=step.start)
    whole = StepTimes(step.node + _WHOLE, step.status, (step.node, *calls), "", step.end, step.end)
    return [own, whole]


def _whole(node: str, grown: Mapping[str, object]) -> str:
    return node + _WHOLE if node in grown else node


def _returned_by(children: Sequence[StepRun]) -> dict[str, str]:
    """Return for each step that a step returned the node of that step, also through sub-pipelines."""
    known = {child.id: child for child in children}
    found = {}
    for child in children:
        above = known.get(child.parent_id)
        while above is not None and above.kind != "step":
            above = known.get(above.parent_id)
        if above is not None and child.kind == "step":
            found[child.node] = above.node
    return found
