"""How busy NVIDIA's graphics processors are, by the package ``nvidia-ml-py`` where it is installed."""

from __future__ import annotations

import functools
from typing import Any

from mlflow_pipes.model.attempt import GpuUse


def gpu_use(visible: str) -> tuple[GpuUse, ...]:
    """Return the use of graphics processors, named as in ``CUDA_VISIBLE_DEVICES``.

    Nothing is told where that package or the driver is not there, and of processors that it does not know.
    """
    names = [name.strip() for name in visible.split(",") if name.strip()]
    nvml = _nvml() if names else None
    if nvml is None:
        return ()
    found = []
    for name in names:
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else _by_uuid(nvml, name)
            percent = float(nvml.nvmlDeviceGetUtilizationRates(device).gpu)
            found.append(GpuUse(percent, int(nvml.nvmlDeviceGetMemoryInfo(device).used)))
        except nvml.NVMLError:
            continue
    return tuple(found)


def _by_uuid(nvml: Any, name: str) -> Any:
    """Return the device of a UUID; CUDA takes the beginning of one, too."""
    for number in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(number)
        if nvml.nvmlDeviceGetUUID(device).startswith(name):
            return device
    return nvml.nvmlDeviceGetHandleByUUID(name)  # partitions of one (MIG); raises what tells that there is none


@functools.cache
def _nvml() -> Any:
    """Return the library, ready to be asked; None where it is not there. Asked for once a process."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
