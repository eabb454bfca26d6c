"""Prefect: its own temporary server on SQLite, results persisted and cached by source and inputs, tasks on threads."""

import protocol
from prefect import flow, task, unmapped
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.task_runners import ThreadPoolTaskRunner

REUSE = TASK_SOURCE + INPUTS


@task(persist_result=True, cache_policy=REUSE)
def increment(x):
    """A step of a chain."""
    return x + 1


@task(persist_result=True, cache_policy=REUSE)
def shifted(x, by):
    """A step of a fan-out."""
    return x + by


@task(persist_result=True, cache_policy=REUSE)
def total(parts):
    """Gathers a fan-out."""
    return sum(parts)


@flow
def chain(start, size):
    """One after the other: plain calls, the fastest way that there is."""
    x = start
    for _ in range(size):
        x = increment(x)
    return x


@flow(task_runner=ThreadPoolTaskRunner())
def fan_out(start, size):
    """1 -> size -> 1."""
    first = increment(start)
    return total(shifted.map(unmapped(first), list(range(size))).result())


@flow(task_runner=ThreadPoolTaskRunner())
def mapped(start, size):
    """One task an item."""
    return increment.map(list(range(start, start + size))).result()


FLOWS = {"chain": chain, "fan_out": fan_out, "map": mapped}


def main() -> None:
    """Measure."""
    asked = protocol.task()

    def carried_out(graph: str, size: int, start: int) -> int:
        answer = FLOWS[graph](start, size)
        return sum(answer) if graph == "map" else answer

    protocol.measure(asked, "prefect", carried_out, again=True)


if __name__ == "__main__":
    main()
