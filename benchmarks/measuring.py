"""Measuring: wall time, CPU time and peak memory of whole processes; medians; a table to write."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_pipes.workspace.publishing import publisher_ended

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Figure:
    """One line of the results.

    Attributes:
        what: what was measured. value: median, with its unit. bound: what was promised. note: spread and conditions.
    """

    what: str
    value: str
    bound: str = ""
    note: str = ""


@dataclass(frozen=True)
class Usage:
    """What a finished process used."""

    wall_s: float
    cpu_s: float
    stdout: str


def process(arguments: Sequence[str], *, cwd: Path = PROJECT, environ: dict[str, str] | None = None) -> Usage:
    """Run a Python process to its end and return the operating system's account of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    # Byte code is kept, as after any installation.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**inherited, "PIPES_DISPLAY": "off", **(environ or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    stdout = child.stdout.read()
    _, status = os.waitpid(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} exited with {child.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Usage(wall, cpu, stdout)


def in_process(code: str, **arguments: object) -> dict[str, float]:
    """Run *code* in a process of its own; it gets ``arguments`` and prints its figures as one line of JSON."""
    usage = process(["-c", f"arguments = {arguments!r}\n{code}"])
    figures = json.loads(usage.stdout.strip().splitlines()[-1])
    return {**figures, "process_cpu_s": usage.cpu_s}


def peak_bytes() -> int:
    """Return the most memory that this process had resident (``ru_maxrss`` may be that of who started it)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def published(workspace_folder: Path) -> None:
    """Wait until MLflow has all that was recorded: nobody is measured while the publisher of the run before works."""
    process(["-m", "mlflow_pipes", "sync", "--workspace", str(workspace_folder)])


def unpublished(workspace_folder: Path) -> None:
    """Have the publisher of the run before end, and wait for that; what it has not delivered is left lying."""
    with publisher_ended(workspace_folder):
        pass


def median_of(runs: int, call: Callable[[], float]) -> tuple[float, str]:
    """Return the median of several calls and their spread as text."""
    values = [call() for _ in range(runs)]
    return statistics.median(values), f"{runs} runs, {min(values):.4g} to {max(values):.4g}"


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        "| what | median | promised at most | runs and spread |",
        "|---|---|---|---|",
        *(f"| {f.what} | {f.value} | {f.bound} | {f.note} |" for f in figures),
    ]
    return "\n".join(rows)
