"""One step of a run, as ``pipes show RUN STEP`` tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.cli.moments import local_time
from mlflow_pipes.cli.output import iso, stdout_look
from mlflow_pipes.cli.records import describe, step_record
from mlflow_pipes.display.failure import failure_lines, quoted
from mlflow_pipes.display.look import STATUS_STYLE, Line, Look
from mlflow_pipes.display.words import duration, number, short_id, size
from mlflow_pipes.model.run import Status
from mlflow_pipes.workspace.usage import UsageSummary, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_pipes.model.attempt import UsageSample
    from mlflow_pipes.model.run import AttemptEnded
    from mlflow_pipes.workspace import StepRun

_SPARKLINE_CELLS = 40


def step_lines(step: StepRun) -> list[Line]:
    """Return all that is known of a step's run, for a person."""
    look, status = stdout_look(), step.status
    head: Line = [
        (f"{look.symbol(status)} ", STATUS_STYLE[status]),
        (step.node, "bold"),
        (f" {status.value}", STATUS_STYLE[status]),
    ]
    if step.duration_s is not None and not step.reused:
        head.append((f" in {duration(step.duration_s)}", ""))
    lines: list[Line] = [head]
    lines += [[(f"  {name:<12}", "dim"), (text, "")] for name, text in _facts(step).items() if text]
    lines += [_attempt_line(attempt) for attempt in step.history if step.attempts > 1]
    lines += usage_lines(step, look)
    if status is Status.FAILED:
        command = f"pipes logs {short_id(step.run_id)} {quoted(step.node)}"
        lines += [
            [],
            *failure_lines(step.failure, step.reason),
            [("    whole traceback and log: ", "dim"), (command, "")],
        ]
    return lines


def _facts(step: StepRun) -> dict[str, str]:
    host = step.history[-1].host if step.history else ""
    return {
        "run": step.run_id,
        "started": "" if step.started_at is None else local_time(step.started_at),
        "where": f"{step.worker} on {host}" if host and step.worker else step.worker or step.target,
        "computed by": f"run {step.reused_from_run}" if step.reused_from_run else "",
        "reason": step.reason if step.status is not Status.FAILED else "",
        "parameters": ", ".join(f"{name}={text}" for name, text in step.parameters.items()),
        "tags": ", ".join(f"{key}={value}" for key, value in step.tags.items()),
        "metrics": ", ".join(f"{key}={number(value)}" for key, value in _numbers(step).items()),
        "output": describe(step.artifact) or "",
        "key": step.key,
        "warnings": "; ".join(step.warnings),
    }


def _numbers(step: StepRun) -> dict[str, float]:
    return {key: value for key, value in step.metrics.items() if isinstance(value, int | float)}


def _attempt_line(attempt: AttemptEnded) -> Line:
    how = "succeeded" if attempt.failure is None else attempt.failure.message.partition("\n")[0]
    took = duration(attempt.ended_at - attempt.started_at)
    return [(f"  {f'attempt {attempt.number}':<12}", "dim"), (f"{how}, after {took} on {attempt.worker}", "")]


def usage_lines(step: StepRun, look: Look) -> list[Line]:
    """Return what the step used of its machine; of a short one that is known at its end only."""
    samples, summary = step.usage, summary_of(step.usage)
    if summary is None:
        if step.reused or not step.history:
            return []
        last = step.history[-1].usage
        told = f"{duration(last.cpu_s)} of processor time, at most {size(last.peak_memory_bytes)} of memory"
        return [[(f"  {'used':<12}", "dim"), (told, "")]]
    rows = [
        ("cpu", f"{_percent(summary.mean_cpus)} on average, at most {_percent(summary.peak_cpus)}", _cpus),
        (
            "memory",
            f"{size(summary.mean_memory_bytes)} on average, at most {size(_peak_bytes(step, summary))}",
            _memory,
        ),
    ]
    if summary.mean_gpu_percent is not None and summary.peak_gpu_memory_bytes is not None:
        told = (
            f"{summary.mean_gpu_percent:.0f}% on average, at most {size(summary.peak_gpu_memory_bytes)} of its memory"
        )
        rows.append(("gpu", told, _gpu))
    widest = max(len(told) for _, told, _ in rows)
    lines: list[Line] = []
    for name, told, value in rows:
        picture = _sparkline(samples, value, look)
        drawn: Line = [(f"{told:<{widest}}  ", ""), (picture, "cyan")] if picture else [(told, "")]
        lines.append([(f"  {name:<12}", "dim"), *drawn])
    return lines


def usage_record(step: StepRun) -> dict[str, Any]:
    """Return a step with the samples of what it used, as JSON."""
    numbers = _numbers(step)
    samples = [
        {
            "attempt": sample.attempt.number,
            "at": iso(sample.at),
            "cpus": round(sample.cpus, 3),
            "memory_bytes": sample.memory_bytes,
            "gpus": [{"percent": gpu.percent, "memory_bytes": gpu.memory_bytes} for gpu in sample.gpus],
        }
        for sample in step.usage
    ]
    return {**step_record(step, numbers), "usage": usage_summary(step), "samples": samples}


def usage_summary(step: StepRun) -> dict[str, Any] | None:
    """Return what a step used in a few numbers, as JSON; None of one that was not looked at."""
    summary = summary_of(step.usage)
    if summary is None:
        return None
    return {
        "mean_cpus": round(summary.mean_cpus, 3),
        "peak_cpus": round(summary.peak_cpus, 3),
        "mean_memory_bytes": round(summary.mean_memory_bytes),
        "peak_memory_bytes": _peak_bytes(step, summary),
        "mean_gpu_percent": summary.mean_gpu_percent,
        "peak_gpu_memory_bytes": summary.peak_gpu_memory_bytes,
    }


def _peak_bytes(step: StepRun, summary: UsageSummary) -> int:
    """Return the peak of memory: the worker's own at the end may have been higher than what was seen between."""
    return max(summary.peak_memory_bytes, *(attempt.usage.peak_memory_bytes for attempt in step.history), 0)


def _percent(cpus: float) -> str:
    return f"{100 * cpus:.0f}%"


def _cpus(sample: UsageSample) -> float:
    return sample.cpus


def _memory(sample: UsageSample) -> float:
    return float(sample.memory_bytes)


def _gpu(sample: UsageSample) -> float:
    return sum(gpu.percent for gpu in sample.gpus)


def _sparkline(samples: Sequence[UsageSample], value: Callable[[UsageSample], float], look: Look) -> str:
    """Return a picture of a value over time: samples are not evenly spaced, cells are."""
    cells = min(len(samples), _SPARKLINE_CELLS)
    if cells < 3:
        return ""
    begin, end = samples[0].at, samples[-1].at
    values = []
    at = 0
    for cell in range(cells):
        until = begin + (end - begin) * cell / (cells - 1)
        while at + 1 < len(samples) and samples[at + 1].at <= until:
            at += 1
        values.append(value(samples[at]))
    return look.sparkline(values, max(map(value, samples)))
