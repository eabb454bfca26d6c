"""The lines of a run as it stands: a header, then steps one by one or counted by name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_pipes.display.look import STATUS_STYLE, Line, Look, cells, clip, pad
from mlflow_pipes.display.progress import SHOWN_MEMBERS, NameProgress, RunProgress, StepProgress, problem_of, why_ended
from mlflow_pipes.display.words import duration, short_id, ticking, usage_words
from mlflow_pipes.model.run import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LINES = 20
LABEL_CELLS = 44  # widest column of step names
DEEPEST_INDENT = 10
_THRESHOLDS = (SHOWN_MEMBERS, 20, 12, 8, 5, 3, 2, 1)
_WORDS = {
    Status.SUCCEEDED: "ran",
    Status.REUSED: "reused",
    Status.FAILED: "failed",
    Status.SKIPPED: "skipped",
    Status.CANCELLED: "cancelled",
    Status.INTERRUPTED: "interrupted",
}


def run_lines(
    progress: RunProgress, look: Look, now: float, *, room: int = MOST_LINES + 1, tick: int = 0
) -> list[Line]:
    """Return the header and at most ``room - 1`` lines of steps.

    Costs what is shown, not what is in the run: a thousand calls of one step are one line.
    """
    return [header(progress, look, now, tick), *step_lines(progress, look, now, room=max(1, room - 1), tick=tick)]


def header(progress: RunProgress, look: Look, now: float, tick: int = 0) -> Line:
    """Return the line about the run as a whole."""
    status = progress.status
    running = not status.ended
    sign = look.spinner(tick) if running else look.symbol(status)
    line: Line = [
        (f"{sign} ", STATUS_STYLE[status]),
        (progress.pipeline or "run", "bold"),
        (f"  run {short_id(progress.run_id)}", "dim"),
        (f"  {(ticking if running else duration)(progress.elapsed_s(now))}", "" if running else "dim"),
    ]
    total = progress.total
    if total > 1:
        line.append((f"  {progress.ended:,}/{total:,} steps", "dim" if not running else ""))
    return line


def counts_words(counts: dict[Status, int]) -> list[tuple[str, str]]:
    """Return what the ended steps came to, such as ``10 ran``, with styles."""
    return [(f"{counts[status]:,} {word}", STATUS_STYLE[status]) for status, word in _WORDS.items() if counts[status]]


def step_lines(progress: RunProgress, look: Look, now: float, *, room: int = MOST_LINES, tick: int = 0) -> list[Line]:
    """Return the lines of steps, at most *room*: single steps where they fit, else counted by name."""
    for threshold in _THRESHOLDS:
        items = list(_items(progress, threshold, room + 1))
        if len(items) <= room:
            return [_line(item, look, now, tick, _label_width(items)) for item in items]
    items = _most_telling(progress, room - 1)
    hidden = len(progress.names) - len(items)
    lines = [_line(item, look, now, tick, _label_width(items)) for item in items]
    return [*lines, [(f"{look.dots} and {hidden:,} more step names", "dim")]]


def _items(progress: RunProgress, threshold: int, most: int) -> Iterator[StepProgress | NameProgress]:
    """Yield at most *most* lines' subjects: members of small names, larger names as a whole; children after parents."""
    pending = list(reversed(progress.top))
    yielded = 0
    while pending and yielded < most:
        name = pending.pop()
        if name.total <= threshold:
            yield from name.members
            yielded += name.total
        else:
            yield name
            yielded += 1
        pending.extend(reversed(name.children))


def _most_telling(progress: RunProgress, room: int) -> list[StepProgress | NameProgress]:
    """Return what fits of too many names: failed, then running, then started, in the order of declaration."""
    names = list(progress.names.values())

    def dullness(name: NameProgress) -> int:
        counts = name.counts
        if counts[Status.FAILED]:
            return 0
        if counts[Status.RUNNING]:
            return 1
        return 2 if 0 < name.ended() < name.total else 3

    chosen = sorted(range(len(names)), key=lambda index: dullness(names[index]))[: max(room, 1)]
    return [names[index] for index in sorted(chosen)]


def indent_of(depth: int) -> str:
    """Return the space before what stands so deep in steps and sub-pipelines; of recursions, no more than fits."""
    return "  " * min(depth, DEEPEST_INDENT)


def _label_width(items: list[StepProgress | NameProgress]) -> int:
    widest = max((cells(indent_of(item.depth) + _label(item)) for item in items), default=0)
    return min(widest, LABEL_CELLS)


def _label(item: StepProgress | NameProgress) -> str:
    if isinstance(item, NameProgress):
        return f"{item.name} ×{item.total:,}" if item.total > 1 else item.name  # noqa: RUF001 - the sign is meant
    # Inside a group the indent says the path already: ``outer/train[a=1]`` is shown as ``train[a=1]``.
    start = item.node.rfind(item.name) if item.depth else 0
    return item.node[max(start, 0) :]


def _line(item: StepProgress | NameProgress, look: Look, now: float, tick: int, width: int) -> Line:
    indent = indent_of(item.depth)
    limit = width if look.width is None else min(width, max(8, look.width // 2))
    label = pad(indent + clip(look.readable(_label(item)), limit - len(indent), look.dots), limit)
    if isinstance(item, NameProgress) and item.total > 1:
        return _counted(item, look, label, tick)
    return _single(item.members[0] if isinstance(item, NameProgress) else item, look, now, label, tick)


def _single(step: StepProgress, look: Look, now: float, label: str, tick: int) -> Line:
    status = step.status
    style = STATUS_STYLE[status]
    sign = look.spinner(tick) if status is Status.RUNNING else look.symbol(status)
    line: Line = [(f"  {sign} ", style), (label, "dim" if style == "dim" else ""), ("  ", "")]
    if status is Status.RUNNING:
        line += _under_way(step, look, now)
    elif status is Status.SUCCEEDED:
        if step.started_at is not None:
            line.append((duration(step.elapsed_s(now)), "dim"))
        if step.attempt > 1:
            line.append((f"  at attempt {step.attempt}", "yellow"))
    elif status is Status.FAILED:
        line.append((problem_of(step) or "failed", "red"))
    elif status.ended:
        line.append((_WORDS[status], style))
        if step.reason and status is not Status.REUSED:
            line.append((why_ended(step), "dim"))
    elif status is Status.QUEUED and step.attempt:
        line.append((f"waits for attempt {step.attempt + 1}: {problem_of(step)}", "yellow"))
    return line


def _under_way(step: StepProgress, look: Look, now: float) -> Line:
    line: Line = [(ticking(step.elapsed_s(now)), "cyan")]
    if step.attempt > 1:
        line.append((f"  attempt {step.attempt}", "yellow"))
    if step.total > 0:
        share = step.done / step.total
        line.append((f"  {look.bar(share, 16)} {100 * min(share, 1):.0f}%", "cyan"))
    if step.note:
        line.append((f"  {step.note}", "dim"))
    if step.usage is not None:
        line.append((f"  {usage_words(step.usage)}", "dim"))
    return line


def _counted(name: NameProgress, look: Look, label: str, tick: int) -> Line:
    counts = name.counts
    ended = name.ended()
    if counts[Status.FAILED]:
        status = Status.FAILED
    elif counts[Status.RUNNING] or 0 < ended < name.total:
        status = Status.RUNNING
    elif ended == name.total:
        status = next((status for status in _WORDS if counts[status]), Status.SUCCEEDED)
    else:
        status = Status.WAITING
    style = STATUS_STYLE[status]
    sign = look.spinner(tick) if status is Status.RUNNING else look.symbol(status)
    line: Line = [(f"  {sign} ", style), (label, "dim" if style == "dim" else ""), ("  ", "")]
    if ended < name.total:
        line.append((look.bar(ended / name.total, 20), style))
        line.append((f" {ended:,}/{name.total:,}", ""))
        if counts[Status.RUNNING]:
            line.append((f"  {counts[Status.RUNNING]:,} running", "cyan"))
    for text, word_style in counts_words(counts):
        line += [("  " if len(line) > 3 else "", ""), (text, word_style)]
    if name.problem:
        line.append((f"  {name.problem}", "red"))
    return line
