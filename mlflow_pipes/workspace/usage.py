"""What a step used of its machine, in a few numbers, and as metrics that MLflow knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from mlflow_pipes.model.attempt import UsageSample
from mlflow_pipes.model.tracked import Metric
from mlflow_pipes.quick_dataclasses import dataclass

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """What the attempts of a step used.

    Attributes:
        mean_cpus, peak_cpus: processors kept busy.
        mean_memory_bytes, peak_memory_bytes: resident, of all processes of an attempt together.
        mean_gpu_percent, peak_gpu_memory_bytes: of the graphics processors of an attempt together; None where none was
            told of.
    """

    mean_cpus: float
    peak_cpus: float
    mean_memory_bytes: float
    peak_memory_bytes: int
    mean_gpu_percent: float | None = None
    peak_gpu_memory_bytes: int | None = None


def summary_of(samples: Sequence[UsageSample]) -> UsageSummary | None:
    """Return the summary of a step's samples, each weighed with the time since the one before; None for none."""
    if not samples:
        return None
    with_gpus = [sample for sample in samples if sample.gpus]
    return UsageSummary(
        mean_cpus=_mean(samples, lambda sample: sample.cpus),
        peak_cpus=max(sample.cpus for sample in samples),
        mean_memory_bytes=_mean(samples, lambda sample: sample.memory_bytes),
        peak_memory_bytes=max(sample.memory_bytes for sample in samples),
        mean_gpu_percent=_mean(with_gpus, _gpu_percent) if with_gpus else None,
        peak_gpu_memory_bytes=max(map(_gpu_memory_bytes, with_gpus)) if with_gpus else None,
    )


def as_metrics(samples: Sequence[UsageSample]) -> tuple[Metric, ...]:
    """Return samples under the names of MLflow's system metrics; 100 % is one processor, as ``top`` counts."""
    return tuple(
        Metric(f"system/{key}", number=number, step=step, timestamp_ms=round(sample.at * 1000))
        for step, sample in enumerate(samples)
        for key, number in _metrics_of(sample)
    )


def _metrics_of(sample: UsageSample) -> Iterator[tuple[str, float]]:
    yield "cpu_utilization_percentage", 100 * sample.cpus
    yield "system_memory_usage_megabytes", sample.memory_bytes / _MEGABYTE
    for number, gpu in enumerate(sample.gpus):
        yield f"gpu_{number}_utilization_percentage", gpu.percent
        yield f"gpu_{number}_memory_usage_megabytes", gpu.memory_bytes / _MEGABYTE


def _mean(samples: Sequence[UsageSample], number: Callable[[UsageSample], float]) -> float:
    """Return the mean over time: samples are sparser the longer an attempt runs."""
    total = seconds = 0.0
    for _, of_attempt in groupby(samples, key=lambda sample: sample.attempt):
        before: float | None = None
        for sample in of_attempt:
            # The first of an attempt stands for the half second before it.
            weight = 0.5 if before is None else max(sample.at - before, 0.0)
            total += weight * number(sample)
            seconds += weight
            before = sample.at
    return total / seconds


def _gpu_percent(sample: UsageSample) -> float:
    return sum(gpu.percent for gpu in sample.gpus) / len(sample.gpus)


def _gpu_memory_bytes(sample: UsageSample) -> int:
    return sum(gpu.memory_bytes for gpu in sample.gpus)
