"""``python -m mlflow_pipes.testing.simulate``: search seeds for a run in which the scheduler breaks a law."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from mlflow_pipes.testing.scenarios import Scenario, as_python, scenario_of
from mlflow_pipes.testing.shrinking import law_of, shrunk
from mlflow_pipes.testing.simulator import Simulation

SHRUNK_AT_MOST = 3
"""Failing seeds that are made small; of the others only the law is told."""


def replay_of(scenario: Scenario) -> str:
    """Return Python that simulates a scenario and prints what happens, and which laws break."""
    tasks = "".join(f"        {as_python(task)},\n" for task in scenario.tasks)
    rest = as_python(replace(scenario, tasks=())).removeprefix("Scenario(").removesuffix(")")
    return (
        "from mlflow_pipes.model.attempt import Capacity\n"
        "from mlflow_pipes.model.graph import GroupNode\n"
        "from mlflow_pipes.model.step import RetryPolicy, StepOptions\n"
        "from mlflow_pipes.testing.scenarios import Cancel, Faults, Scenario, Silence, Task\n"
        "from mlflow_pipes.testing.simulator import Simulation\n\n"
        f"scenario = Scenario(\n    tasks=(\n{tasks}    ),\n    {rest},\n)\n"
        "print(Simulation(scenario, log=print).run().broken)\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate as the command line asks; return 1 when a law broke."""
    parser = argparse.ArgumentParser(prog="python -m mlflow_pipes.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many scenarios to simulate (%(default)s)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (%(default)s)")
    parser.add_argument("--seed", type=int, help="simulate this one only, and print all that happens")
    asked = parser.parse_args(arguments)
    return _search(asked.first, asked.seeds) if asked.seed is None else _replay(asked.seed)


def _replay(seed: int) -> int:
    scenario = scenario_of(seed)
    simulation = Simulation(scenario, log=_say).run()
    for told in simulation.broken:
        _say(f"broken: {told}")
    if simulation.broken:
        _say(f"\nThe smallest scenario that breaks this law:\n\n{replay_of(shrunk(scenario))}")
    return 1 if simulation.broken else 0


def _search(first: int, seeds: int) -> int:
    began = time.perf_counter()
    ends: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    failing: list[tuple[int, Sequence[str]]] = []
    for seed in range(first, first + seeds):
        simulation = Simulation(scenario_of(seed)).run()
        for one in simulation.orchestrators:
            crashed = one.died_at is not None
            ends["crashed" if crashed else (one.witness.finished or "never ended")] += 1
            figures["steps"] += len(one.state.status)
            figures["attempts"] += sum(one.state.attempts(node) for node in one.state.status)
        figures["virtual hours"] += int(simulation.now)
        if simulation.broken:
            failing.append((seed, simulation.broken))
    took = time.perf_counter() - began
    runs = ", ".join(f"{count:,} {end}" for end, count in ends.most_common())
    _say(f"{seeds:,} seeds in {took:.1f} s: {ends.total():,} runs ({runs}), {figures['steps']:,} steps,")
    _say(f"{figures['attempts']:,} attempts, {figures['virtual hours'] / 3600:.0f} virtual hours")
    for seed, broken in failing:
        _say(f"seed {seed} breaks: {broken[0]}")
    for seed, broken in failing[:SHRUNK_AT_MOST]:
        _say(f"\n# seed {seed}, as small as it still breaks {law_of(broken)!r}\n{replay_of(shrunk(scenario_of(seed)))}")
    _say(f"{len(failing):,} failing seeds" if failing else "every law held")
    return 1 if failing else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
