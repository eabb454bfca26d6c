"""Dagster: ops in a job, outputs pickled to a folder, events in SQLite. Variants: in_process, multiprocess (2 at once).

The processes of ``multiprocess`` come from a forkserver that has imported dagster: several times faster than the
default (spawn), and an option that users have.
"""

from pathlib import Path

import protocol
from dagster import (
    DagsterInstance,
    DynamicOut,
    DynamicOutput,
    In,
    Int,
    JobDefinition,
    build_reconstructable_job,
    execute_job,
    graph,
    in_process_executor,
    multiprocess_executor,
    op,
)

EXECUTORS = {
    "in_process": in_process_executor,
    "multiprocess": multiprocess_executor.configured(
        {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": ["dagster", "dagster_graphs"]}}}
    ),
}


@op(ins={"x": In(Int)})
def increment(x) -> int:
    """A step of a chain."""
    return x + 1


@op
def shifted(pair) -> int:
    """A step of a fan-out."""
    x, by = pair
    return x + by


@op
def total(parts) -> int:
    """Gathers a fan-out."""
    return sum(parts)


def job_of(variant: str, name: str, size: int) -> JobDefinition:
    """Return the job of a graph; its worker processes make it again."""

    @op(ins={"x": In(Int)}, out=DynamicOut())
    def spread(x):
        first = x + 1
        for by in range(size):
            yield DynamicOutput((first, by), mapping_key=str(by))

    @graph(name="chain")
    def chain(start: int):
        x = start
        for number in range(size):
            x = increment.alias(f"increment_{number}")(x)
        return x

    @graph(name="fan_out")
    def fan_out(start: int):
        return total(spread(start).map(shifted).collect())

    @graph(name="mapped")
    def mapped(start: int):
        spread(start).map(shifted)

    chosen = {"chain": chain, "fan_out": fan_out, "map": mapped}[name]
    return chosen.to_job(executor_def=EXECUTORS[variant])


def main() -> None:
    """Measure."""
    asked = protocol.task()
    instance = DagsterInstance.local_temp(str(asked.state))

    def carried_out(name: str, size: int, start: int) -> int:
        job = build_reconstructable_job(
            "dagster_graphs",
            "job_of",
            reconstructable_args=(asked.variant, name, size),
            reconstructor_working_directory=str(Path(__file__).parent),
        )
        config = {"inputs": {"start": {"value": start}}, "loggers": {"console": {"config": {"log_level": "WARNING"}}}}
        with execute_job(job, instance=instance, run_config=config, raise_on_error=True) as done:
            if name == "map":
                return sum(done.output_for_node("shifted").values())
            return done.output_for_node(f"increment_{size - 1}" if name == "chain" else "total")

    protocol.measure(asked, "dagster", carried_out, again=False)


if __name__ == "__main__":
    main()
