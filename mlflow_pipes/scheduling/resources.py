"""What steps ask for of a compute target, and what a target has: one number a resource."""

from __future__ import annotations

import math
from typing import TypeAlias

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions

RESOURCES = ("cpus", "memory", "gpus")
"""As they are named in ``@step(...)`` and in the configuration."""

TOLERANCE = 1e-9
"""Sums of parts of processors are not exact."""

Vector: TypeAlias = tuple[float, ...]


def asked(options: StepOptions) -> Vector:
    """Return what an attempt occupies, in the order of :data:`RESOURCES`."""
    return (options.cpus, options.memory_bytes, options.gpus)


def owned(capacity: Capacity) -> Vector:
    """Return what a target has; infinity where it does not count."""
    return (capacity.cpus, capacity.memory_bytes or math.inf, capacity.gpus)


def text(resource: str, amount: float) -> str:
    """Return an amount in words.

    >>> text("cpus", 1.5), text("gpus", 1), text("memory", 2048)
    ('1.5 cpus', '1 gpu', '2,048 bytes of memory')
    """
    if resource == "memory":
        return f"{amount:,.0f} bytes of memory"
    return f"{amount:g} {resource.removesuffix('s') if amount == 1 else resource}"
