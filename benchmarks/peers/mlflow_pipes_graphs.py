"""mlflow_pipes: all stored and recorded, the mirror to MLflow at work in the background. Variants: local, inline."""

import time

import protocol

from mlflow_pipes import Workspace, pipeline, run, step
from mlflow_pipes.workspace.publishing import sync


@step
def increment(x: int) -> int:
    """A step of a chain."""
    return x + 1


@step
def shifted(x: int, by: int) -> int:
    """A step of a fan-out."""
    return x + by


@step
def total(parts: list[int]) -> int:
    """Gathers a fan-out."""
    return sum(parts)


@pipeline
def chain(start: int, size: int) -> int:
    """One after the other."""
    x = start
    for _ in range(size):
        x = increment(x)
    return x


@pipeline
def fan_out(start: int, size: int) -> int:
    """1 -> size -> 1."""
    first = increment(start)
    return total([shifted(first, by) for by in range(size)])


@pipeline
def mapped(start: int, size: int) -> list[int]:
    """One step an item."""
    return increment.map(range(start, start + size))


PIPELINES = {"chain": chain, "fan_out": fan_out, "map": mapped}


def main() -> None:
    """Measure; then wait until MLflow has been told everything, and say how long that took."""
    asked = protocol.task()
    with Workspace.open(asked.state / ".pipes") as workspace:

        def carried_out(graph: str, size: int, start: int) -> int:
            done = run(PIPELINES[graph](start, size), workspace=workspace, target=asked.variant, observers=())
            answer = done.output()
            return sum(answer) if graph == "map" else answer

        protocol.measure(asked, "mlflow_pipes", carried_out, again=True)
        began = time.perf_counter()
        sync(workspace.folder)
        protocol.report(asked, "mirrored_s", time.perf_counter() - began)


if __name__ == "__main__":
    main()
