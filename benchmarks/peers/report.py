"""What was measured, as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.catalogue import NO_CACHE, OURS
from benchmarks.peers.measurement import ONCE_ABOVE_S, Graph, Measured
from benchmarks.peers.probing import EDITS

QUIET_LOAD = 0.5
_TEXT = Path(__file__).parent / "reading.md"


@dataclass(frozen=True)
class Conditions:
    """Under what it was measured; the load is that of the minute before the start."""

    date: str
    load: float
    command: str
    rounds: int
    limit_s: float


def report(
    measured: Sequence[Measured],
    graphs: Sequence[Graph],
    probes: Mapping[str, Sequence[str]],
    conditions: Conditions,
) -> str:
    """Return the whole page."""
    return "\n\n".join(
        [
            "# mlflow_pipes and its peers",
            _conditions(conditions),
            _TEXT.read_text(encoding="utf-8").strip(),
            "## What each does, as measured",
            _set_ups(measured),
            "## First run: ms a step",
            _graphs(measured, graphs, "first_s", conditions),
            "## The same again: ms a step",
            _graphs(measured, graphs, "again_s", conditions),
            "## A run, and each further step of it",
            _runs(measured, graphs),
            "## Faster than ours",
            _faster(measured, graphs),
            "## Is an edit seen?",
            _probes(measured, probes),
            "## What went wrong",
            _failures(measured),
            "",
        ]
    )


def _conditions(conditions: Conditions) -> str:
    return (
        f"Measured on {conditions.date} by `{conditions.command}` (`make bench-peers` does it again). "
        f"Python {platform.python_version()}, {os.cpu_count()} cores ({_processor()}), {conditions.rounds} rounds, at "
        f"most {conditions.limit_s:g} s a figure. Load average before the start {conditions.load:.1f}: "
        + (
            "**the machine had other work to do**, so trust orders of magnitude, not digits."
            if conditions.load > QUIET_LOAD
            else "the machine was quiet."
        )
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _set_ups(measured: Sequence[Measured]) -> str:
    head = ("tool", "version", "does steps in", "stores results", "records history", "reuses by")
    return _rows(
        head,
        [
            (
                one.peer.label,
                one.version or "?",
                one.peer.does_steps_in,
                one.peer.stores,
                one.peer.records,
                one.peer.reuse or "no reuse",
            )
            for one in measured
        ],
    )


def _graphs(measured: Sequence[Measured], graphs: Sequence[Graph], figure: str, conditions: Conditions) -> str:
    ours = next((one for one in measured if one.peer.name == OURS), None)
    head = ["tool", *(f"{graph.name} of {graph.full}" for graph in graphs)]
    return _rows(
        head,
        [[one.peer.label, *(_cell(one, ours, graph, figure, conditions) for graph in graphs)] for one in measured],
    )


def _cell(one: Measured, ours: Measured | None, graph: Graph, figure: str, conditions: Conditions) -> str:
    full = _a_step(one, ours, graph, "full", figure)
    if full:
        return full
    smaller = _a_step(one, ours, graph, "smaller", figure)
    beside = f"; {graph.smaller}: {smaller}" if smaller else ""
    limit = f"> {conditions.limit_s:g} s"
    if (graph.name, f"full_{figure}") in one.over_limit:
        return limit + beside
    if graph.name in one.not_tried and smaller:
        pace = (one.median(graph.name, f"smaller_{figure}") or 0.0) * graph.full / graph.smaller
        return f"not tried, at this pace {pace:.0f} s{beside}"
    if any(name == graph.name for name, _ in one.over_limit):
        return f"not reached, a figure before it took {limit}{beside}"
    if "all" in one.failures or graph.name in one.failures:
        return f"failed{beside}"
    return "no reuse"


def _a_step(one: Measured, ours: Measured | None, graph: Graph, which: str, figure: str) -> str:
    name = f"{which}_{figure}"
    seconds = one.values.get((graph.name, name))
    median = one.median(graph.name, name)
    if not seconds or median is None:
        return ""
    steps = graph.steps(which)
    text = f"{_ms(median / steps)}"
    if len(seconds) > 1:
        text += f" ({_ms(min(seconds) / steps)} to {_ms(max(seconds) / steps)})"
    else:
        text += " (1 round)"
    base = ours.median(graph.name, name) if ours else None
    return text + (f"; {_ratio(median / base)} times" if base and one is not ours else "")


def _runs(measured: Sequence[Measured], graphs: Sequence[Graph]) -> str:
    head = ["tool", "from nothing to the first result, s", "a run of one step, ms"]
    head += [f"each further step, {graph.name}, ms" for graph in graphs]
    rows = []
    for one in measured:
        cold, single = one.over_all_graphs("cold_s"), one.over_all_graphs("single_s")
        row = [one.peer.label, f"{statistics.median(cold):.1f}" if cold else "?"]
        if single:
            single_s = statistics.median(single)
            row += [_ms(single_s), *(_further(one, graph, single_s) for graph in graphs)]
        else:
            row += ["?"] * (1 + len(graphs))
        rows.append(row)
    return f"{_rows(head, rows)}\n\n{_mirroring(measured, graphs)}"


def _mirroring(measured: Sequence[Measured], graphs: Sequence[Graph]) -> str:
    """Say what ours had left to do when its calls had returned."""
    said = [
        f"{one.peer.label}, {graph.name}: {seconds:.1f} s"
        for one in measured
        for graph in graphs
        if (seconds := one.median(graph.name, "mirrored_s")) is not None
    ]
    return f"After all its calls, until MLflow had been told everything: {'; '.join(said) or 'not measured'}."


def _further(one: Measured, graph: Graph, single_s: float) -> str:
    """Return what a step costs beyond the run itself; of the smaller size where the full one took too long."""
    for which in ("full", "smaller"):
        median = one.median(graph.name, f"{which}_first_s")
        if median is not None:
            text = _ms((median - single_s) / (graph.steps(which) - 1))
            return text if which == "full" else f"{text} (of {graph.size(which)})"
    return "?"


def _faster(measured: Sequence[Measured], graphs: Sequence[Graph]) -> str:
    """Say where others beat our ``local``: the page may not leave that to the reader."""
    ours = next((one for one in measured if one.peer.name == OURS), None)
    lines = []
    for one in (peer for peer in measured if ours and peer.peer.name != OURS):
        won = [
            f"{graph.name} {when} ({_ratio(theirs / mine)} times)"
            for when, figure in (("first", "full_first_s"), ("again", "full_again_s"))
            for graph in graphs
            if (theirs := one.median(graph.name, figure))
            and (mine := ours.median(graph.name, figure))
            and theirs < mine
        ]
        if won:
            lines.append(f"- {one.peer.label}: {', '.join(won)}.")
    return "\n".join(["As long as `mlflow_pipes, local` takes, in brackets; less than one is faster.", "", *lines])


def _probes(measured: Sequence[Measured], probes: Mapping[str, Sequence[str]]) -> str:
    names = list(dict.fromkeys(one.peer.name for one in measured))
    table = _rows(
        ["edited", *names], [[edit.what, *(probes[name][at] for name in names)] for at, edit in enumerate(EDITS)]
    )
    reasons = "\n".join(f"- {name}: {NO_CACHE[name]}." for name in names if name in NO_CACHE)
    return f"{table}\n\nNot applicable, because:\n\n{reasons}" if reasons else table


def _failures(measured: Sequence[Measured]) -> str:
    lines = [f"- {one.peer.label}, {where}: {why}" for one in measured for where, why in one.failures.items()]
    lines += [
        f"- {one.peer.label}, {graph}: `{figure}` took longer than the limit"
        for one in measured
        for graph, figure in sorted(one.over_limit)
    ]
    slow = f"A graph whose figures took over {ONCE_ABOVE_S:g} s in all in the first round was measured once."
    return "\n".join(lines or ["Nothing."]) + f"\n\n{slow}"


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
