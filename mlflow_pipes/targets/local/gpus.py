"""Graphics processors of this machine, and what an attempt sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_pipes.machine import capacity

if TYPE_CHECKING:
    from mlflow_pipes.model.attempt import Assignment


def named_gpus(count: int | None) -> tuple[str, ...]:
    """Return the names, for ``CUDA_VISIBLE_DEVICES``, of so many graphics processors; for None of all that are there.

    Where nothing tells of so many, they are called by their numbers.
    """
    found = capacity.gpus() if count != 0 else ()
    if count is None:
        return found
    return found[:count] if len(found) >= count else tuple(map(str, range(count)))


def seeing_its_gpus(assignment: Assignment, names: Sequence[str]) -> Assignment:
    """Return an assignment that sees its own graphics processors and no others, unless it asks for none."""
    if not assignment.gpus:
        return assignment
    visible = ",".join(names[number] for number in assignment.gpus)
    return replace(assignment, environ={**assignment.environ, "CUDA_VISIBLE_DEVICES": visible})
