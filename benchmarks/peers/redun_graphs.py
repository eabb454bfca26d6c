"""redun: lazy expressions, the local executor (threads, its default), values and call graph in SQLite."""

import logging

import protocol
from redun import Scheduler, task
from redun.config import Config

redun_namespace = "peers"


@task()
def increment(x: int) -> int:
    """A step of a chain."""
    return x + 1


@task()
def shifted(x: int, by: int) -> int:
    """A step of a fan-out."""
    return x + by


@task()
def total(parts: list) -> int:
    """Gathers a fan-out."""
    return sum(parts)


def expression(graph: str, size: int, start: int):
    """Return the graph as redun has it."""
    if graph == "chain":
        x = start
        for _ in range(size):
            x = increment(x)
        return x
    if graph == "fan_out":
        first = increment(start)
        return total([shifted(first, by) for by in range(size)])
    return [increment(item) for item in range(start, start + size)]


def main() -> None:
    """Measure."""
    asked = protocol.task()
    logging.getLogger("redun").setLevel(logging.WARNING)
    scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{asked.state}/redun.db"}}))
    scheduler.load()

    def carried_out(graph: str, size: int, start: int) -> int:
        answer = scheduler.run(expression(graph, size, start))
        return sum(answer) if graph == "map" else answer

    protocol.measure(asked, "redun", carried_out, again=True)


if __name__ == "__main__":
    main()
