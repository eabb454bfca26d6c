"""What steps ask for of a compute target, and what a target has: one number a resource."""

from __future__ import annotations

import math
from operator import le
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


def too_much(node: str, options: StepOptions, target: str, owned_: Vector, where: str = "in all") -> str:
    """Return what a step asks for that there never is on a target, in words; empty when the target can hold it.

    Args:
        node: id of the step's node.
        options: of the step.
        target: its name.
        owned_: what it has.
        where: of the target that is.
    """
    amounts = asked(options)
    if all(map(le, amounts, owned_)):
        return ""
    short = [one for one in zip(RESOURCES, amounts, owned_, strict=True) if one[1] > one[2]]
    wants = " and ".join([f"{resource}={amount:.15g}" for resource, amount, _ in short])
    has = " and ".join([text(resource, all_) for resource, _, all_ in short])
    return f"step {node!r} asks for {wants}, but target {target!r} has {has} {where}"


def text(resource: str, amount: float) -> str:
    """Return an amount in words.

    >>> text("cpus", 1.5), text("gpus", 1), text("memory", 2048)
    ('1.5 cpus', '1 gpu', '2,048 bytes of memory')
    """
    if resource == "memory":
        return f"{amount:,.0f} bytes of memory"
    return f"{amount:g} {resource.removesuffix('s') if amount == 1 else resource}"
