"""What is said when a run has ended: how it went, its failures and metrics, where to look next. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mlflow_pipes.display.failure import step_failure_lines
from mlflow_pipes.display.lines import counts_words
from mlflow_pipes.display.look import STATUS_STYLE, Line, Look, Span, cells
from mlflow_pipes.display.tables import table_lines
from mlflow_pipes.display.words import duration, number, short_id
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.run import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_pipes.display.progress import RunProgress
    from mlflow_pipes.model.artifact import Artifact

FULL_FAILURES = 3  # shown with their place in the code; of the others the names
METRIC_ROWS = 20
_SERVICE = re.compile(r"^https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?(?:/\S*)?$")


def summary_lines(progress: RunProgress, look: Look, now: float) -> list[Line]:
    """Return the closing lines of an ended run."""
    lines = failures(progress, look)
    table = metric_lines(progress.metrics_in_order(), look)
    if table:
        lines += [*table, []]
    lines.append(_outcome(progress, look, now))
    if progress.status is not Status.SUCCEEDED and progress.message and not progress.failures:
        lines.append([(f"  {progress.message}", "")])
    lines.append(_next(progress))
    lines.extend([("  service: ", "dim"), (url, "bold")] for url in service_urls(progress.outputs.values()))
    return lines


def _outcome(progress: RunProgress, look: Look, now: float) -> Line:
    status = progress.status
    line: Line = [
        (f"{look.symbol(status)} {progress.pipeline}", f"bold {STATUS_STYLE[status]}".replace(" dim", "")),
        (f" {status.value} in {duration(progress.elapsed_s(now))}", ""),
    ]
    words = counts_words(progress.counts)
    for index, word in enumerate(words):
        line += [(": " if index == 0 else ", ", "dim"), word]
    return line


def _next(progress: RunProgress) -> Line:
    run = short_id(progress.run_id)
    return [("  look closer: ", "dim"), (f"pipes show {run}", ""), ("   in MLflow: ", "dim"), ("pipes ui", "")]


def failures(progress: RunProgress, look: Look) -> list[Line]:
    """Return the blocks of failed steps: the first few in full, the others by name."""
    lines: list[Line] = []
    for step in progress.failures[:FULL_FAILURES]:
        lines += [*step_failure_lines(step, progress.run_id, look.symbol(Status.FAILED)), []]
    others = progress.failures[FULL_FAILURES:]
    if others:
        unnamed = progress.causes.count - FULL_FAILURES - len(others)
        names = ", ".join(step.node for step in others) + (f" and {unnamed:,} more" if unnamed > 0 else "")
        lines += [[(f"{look.symbol(Status.FAILED)} also failed: ", "red"), (names, "")], []]
    return lines


def metric_lines(metrics: Mapping[str, Mapping[str, float]], look: Look) -> list[Line]:
    """Return a table of the last value of each number: steps down, metrics across; what does not fit is counted.

    The metrics of most steps come first, so that a choice among models reads as one block.
    """
    rows = {node: values for node, values in metrics.items() if values}
    if not rows:
        return []
    columns = list(dict.fromkeys(key for values in rows.values() for key in values))
    columns.sort(key=lambda key: -sum(key in values for values in rows.values()))
    kept = _fitting(columns, rows, look)
    shown = {node: values for node, values in rows.items() if any(key in values for key in kept)}
    body: list[list[Span]] = []
    for node, values in list(shown.items())[:METRIC_ROWS]:
        body.append([(node, ""), *((number(values[key]) if key in values else "", "bold") for key in kept)])
    lines = table_lines(look, ["metrics", *kept], body, right=frozenset(range(1, len(kept) + 1)))
    notes = []
    if len(rows) > len(body):
        notes.append(f"{len(rows) - len(body):,} more steps")
    if len(columns) > len(kept):
        notes.append(f"{len(columns) - len(kept):,} more metrics")
    if notes:
        lines.append([(f"{look.dots} {' and '.join(notes)}", "dim")])
    return lines


def _fitting(columns: list[str], rows: Mapping[str, Mapping[str, float]], look: Look) -> list[str]:
    """Return the metrics that fit beside the steps' names, the most common first, at least one."""
    if look.width is None:
        return columns[:12]
    left = look.width - min(40, max(cells(node) for node in rows))
    kept: list[str] = []
    for key in columns:
        left -= 2 + max(cells(key), *(len(number(values[key])) for values in rows.values() if key in values))
        if left < 0 and kept:
            break
        kept.append(key)
    return kept


def service_urls(outputs: Iterable[Artifact]) -> list[str]:
    """Return the addresses on this machine that stand in steps' outputs, each once: deployed services."""
    found: dict[str, None] = {}
    pending = list(outputs)
    budget = 2000  # leaves looked at: a summary must not take long
    while pending and budget > 0:
        artifact = pending.pop(0)
        budget -= 1
        if not isinstance(artifact, Leaf):
            pending[:0] = artifact.items[:100]
        elif artifact.inline is not None and b"://" in artifact.inline and len(artifact.inline) < 4096:
            found.update(dict.fromkeys(_urls_in(artifact.inline)))
    return list(found)


def _urls_in(content: bytes) -> list[str]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return []
    try:
        plain = json.loads(text)
    except ValueError:
        plain = text
    values = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else [plain]
    return [value for value in values if isinstance(value, str) and _SERVICE.match(value)]
