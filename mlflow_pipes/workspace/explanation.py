"""``explain``: why a step of a recorded run did what it did, where it ran, and for what it waited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlflow_pipes.model.run import Status
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.critical_path import Link
from mlflow_pipes.scheduling.shortage import amounts_text, told_short
from mlflow_pipes.workspace.explain import Change, changes_text, compare
from mlflow_pipes.workspace.records import Run, StepRun
from mlflow_pipes.workspace.timeline import id_of, timeline
from mlflow_pipes.workspace.waiting import StepTimes, Wait, waits_of
from mlflow_pipes.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step of a run did what it did.

    Attributes:
        step: the step's record in the run explained.
        reason: one line.
        changes: what differs from the last time before that it ended well; empty when it was reused or is new.
        before: run id of that last time, None when there was none.
        placement: one line: why it ran where it ran; empty when it did not run.
        waits: for what it waited, first to last; times are seconds since the epoch.
        now: when this was asked, by the same clock: the last wait may still last.
        under_way: whether the run has not ended.
        critical: its place on the run's critical path, None when it is not on it.
        share: of the run's time that its link on the critical path took, from 0 to 1.
        saved_s: for a reused step, how long the run took that computed its output; None when that is not known.
    """

    step: StepRun
    reason: str
    changes: tuple[Change, ...] = ()
    before: str | None = None
    placement: str = ""
    waits: tuple[Wait, ...] = ()
    now: float = 0.0
    under_way: bool = False
    critical: Link | None = None
    share: float = 0.0
    saved_s: float | None = None


def explain(step: str, *, run: str = "latest", workspace: Workspace | str | Path | None = None) -> Explanation:
    """Return why a step of a recorded run ran, was reused, waits or was not reached: the leaf that changed.

    Also of a run that is under way in another process.

    Args:
        step: node id such as ``train[max_depth=8]``, or a step's name where it is the only one.
        run: run id, unambiguous prefix, or ``latest``.
        workspace: as for ``run``.

    Raises:
        NotFoundError: no such run or step; near names are suggested.
    """
    home = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    record = home.runs.get(run)
    found = record.step(step)
    reason, changes, before = _why(home, record, found)
    now = home.clock.now() if record.ended_at is None else record.ended_at.timestamp()
    path = record.critical_path
    link = next((one for one in path if one.node == found.node), None)
    whole_s = path[-1].end - record.started_at.timestamp() if path else 0.0
    return Explanation(
        found,
        reason,
        changes,
        before,
        placement=_placement(record, found),
        waits=tuple(_waits(home, record, found, now)),
        now=now,
        under_way=record.ended_at is None,
        critical=link,
        share=link.took_s / whole_s if link is not None and whole_s else 0.0,
        saved_s=_saved_s(home, found),
    )


def _why(home: Workspace, record: Run, found: StepRun) -> tuple[str, tuple[Change, ...], str | None]:
    """Return why in one line, what changed, and since which run."""
    if found.reused:
        origin = f"run {found.reused_from_run[:8]}" if found.reused_from_run else "a run that is no longer known"
        return f"nothing changed since {origin} computed it", (), None
    if not found.key:
        return found.reason or f"it is {found.status}", (), None
    runs = {Status.RUNNING: "runs", Status.QUEUED: "must run"}.get(found.status, "ran")
    last = home.runs.last_successes(record.pipeline, before=record.id, nodes=[found.node]).get(found.node)
    if last is None:
        return f"it {runs} because it had not ended well before", (), None
    changes = tuple(compare(home.runs.last_ingredients(last), home.runs.ingredients(found)))
    reason = changes_text(changes) or "it is declared with reuse='never', or its entry was gone from the step cache"
    return f"it {runs} because {reason}", changes, last.run_id


def _saved_s(home: Workspace, found: StepRun) -> float | None:
    return home.runs.timings.duration_s(found.reused_from) if found.reused_from else None


def _placement(record: Run, found: StepRun) -> str:
    if not found.target:
        return ""
    if found.named_by:
        others = f" (others run on {record.target})" if found.target != record.target else ""
        return f"on {found.target}, which was named by {found.named_by}{others}"
    if found.target != record.target:  # a run of an older version, which did not say
        return f"on {found.target} (others run on {record.target})"
    return f"on {found.target}, where the run puts steps that name no target"


def _waits(home: Workspace, record: Run, found: StepRun, now: float) -> list[Wait]:
    steps = {one.node: one for one in timeline(record.children, home.runs.timings.attempts(record.id))}
    asked = steps[found.node]
    if asked.status is Status.QUEUED and not asked.target:
        asked = replace(asked, target=_last_target(home, record, found))
    asked = _with_tokens(home, asked, found)
    begin = record.started_at.timestamp()
    until = now if asked.start is None else asked.start
    key = found.key or None
    held: list[tuple[str, float, float | None]] = [
        *home.runs.timings.holders(record.id, found.node, found.name, key, begin, until)
    ]
    for twin in record.steps:
        times = steps[twin.node]
        if key and twin.key == key and twin.id != found.id and times.start is not None and not twin.reused:
            held.append((record.id, times.start, times.end))
    waits = waits_of(asked, steps, begin, now, held, certain=bool(found.key))
    return [replace(wait, on=tuple(id_of(node) for node in wait.on)) for wait in waits]


def _with_tokens(home: Workspace, times: StepTimes, found: StepRun) -> StepTimes:
    short = told_short(found.reason or "") if found.status is Status.QUEUED else ""
    waited = home.runs.timings.token_waits(found.id)
    in_words = tuple([(since, until, amounts_text(amounts)) for since, until, amounts in waited])
    return replace(times, short=short, token_waits=in_words)


def _last_target(home: Workspace, record: Run, found: StepRun) -> str:
    """Return where the node ran last; else where the run's steps go."""
    last = home.runs.last_successes(record.pipeline, before=record.id, nodes=[found.node]).get(found.node)
    row = None if last is None else home.runs.history.step(last.step_run_id)
    return (row.target if row is not None else "") or record.target
