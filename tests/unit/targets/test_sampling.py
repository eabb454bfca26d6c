"""When attempts are looked at, and what is told of them."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mlflow_pipes.model.attempt import AttemptId, GpuUse, UsageSample
from mlflow_pipes.targets.local.gpu_use import gpu_use
from mlflow_pipes.targets.local.process_trees import uses_of
from mlflow_pipes.targets.local.sampling import FIRST_LOOK_S, Looks
from mlflow_pipes.targets.local.wire import Measured
from mlflow_pipes.workspace.usage import as_metrics, summary_of

ATTEMPT = AttemptId("0" * 32, "train", 1)


def sample(at, cpus, memory_bytes, *gpus):
    return UsageSample(ATTEMPT, at, cpus, memory_bytes, tuple(gpus))


def test_nothing_is_asked_before_two_seconds_and_a_long_attempt_is_looked_at_more_and_more_seldom():
    looks = Looks(began=100.0)
    dues = []
    while looks.due < 100.0 + 86_400:
        dues.append(looks.due - 100.0)
        looks.looked(looks.due)
    assert dues[0] == FIRST_LOOK_S
    assert dues[:4] == [2.0, 2.5, 4.5, 6.5]
    gaps = [round(after - before, 6) for before, after in pairwise(dues)]
    assert gaps[1:] == sorted(gaps[1:])
    assert len(dues) < 1_600


def test_processors_are_told_over_the_time_since_the_look_before():
    looks = Looks(began=0.0)
    assert looks.sample(ATTEMPT, Measured(1, 50.0, 7.0, 10, ())) is None
    assert looks.sample(ATTEMPT, Measured(1, 52.0, 10.0, 20, ())) == sample(52.0, 1.5, 20)
    assert looks.sample(ATTEMPT, Measured(1, 52.0, 11.0, 20, ())) is None
    assert looks.sample(ATTEMPT, Measured(1, 54.0, 9.0, 20, ())) == sample(54.0, 0.0, 20)


def test_a_summary_weighs_samples_with_their_time():
    found = summary_of([sample(10.0, 4.0, 100), sample(19.5, 0.0, 300)])
    assert found.mean_cpus == pytest.approx(0.2)
    assert found.peak_cpus == 4.0
    assert found.mean_memory_bytes == pytest.approx(290)
    assert found.peak_memory_bytes == 300
    assert found.mean_gpu_percent is None
    assert summary_of([]) is None


def test_graphics_processors_are_summed_up_and_named_as_mlflow_does():
    samples = [sample(10.0, 1.0, 2_000_000, GpuUse(100.0, 5_000_000), GpuUse(50.0, 3_000_000))]
    found = summary_of(samples)
    assert (found.mean_gpu_percent, found.peak_gpu_memory_bytes) == (75.0, 8_000_000)
    assert {metric.key: metric.number for metric in as_metrics(samples)} == {
        "system/cpu_utilization_percentage": 100.0,
        "system/system_memory_usage_megabytes": 2.0,
        "system/gpu_0_utilization_percentage": 100.0,
        "system/gpu_0_memory_usage_megabytes": 5.0,
        "system/gpu_1_utilization_percentage": 50.0,
        "system/gpu_1_memory_usage_megabytes": 3.0,
    }


def test_memory_is_that_of_a_process_and_all_that_it_started():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(80_000_000); input()'])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            use = uses_of([process.pid])[process.pid]
            while use.memory_bytes < 80_000_000 and process.poll() is None:  # ends with the test's own time limit
                use = uses_of([process.pid])[process.pid]
            assert use.memory_bytes >= 80_000_000
            assert use.cpu_s > 0
        finally:
            process.communicate(b"\n")
    assert uses_of([process.pid]) == {}


def test_no_graphics_processor_is_told_of_where_none_is_asked_for():
    assert gpu_use("") == ()


@pytest.mark.skipif(Path("/proc/driver/nvidia/gpus").exists(), reason="this machine has graphics processors")
def test_a_machine_without_graphics_processors_tells_of_none():
    assert gpu_use("0,GPU-1a2b") == ()
