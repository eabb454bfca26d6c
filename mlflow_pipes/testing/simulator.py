"""Drives the real state machine with a virtual clock and seeded faults; no worker, store or database is needed.

A simulation is one or several runs of the same tasks on one ledger. Each has an orchestrator of its own: the real
``RunState``, and here what ``engine/loop.py`` does for it. The laws that must hold, whatever goes wrong, are in
:mod:`mlflow_pipes.testing.laws`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from mlflow_pipes.testing.orchestrator import Crashed, Orchestrator
from mlflow_pipes.testing.scenarios import Scenario
from mlflow_pipes.testing.simulated_ledger import LEASE_S, SimulatedLedger

__all__ = ["EVENTS_AT_MOST", "Simulation", "broken_laws"]

EVENTS_AT_MOST = 50_000
"""A simulation of a seed's scenario takes some hundred events; one that takes so many goes round in a circle."""


class Simulation:
    """The world of one scenario: virtual clock, queue of what is to come, ledger, orchestrators.

    Attributes:
        now: virtual seconds.
        orchestrators: in the order in which they began, also those that crashed.
        broken: laws that did not hold, each as ``law: what happened``.
    """

    def __init__(self, scenario: Scenario, log: Callable[[str], None] | None = None) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.orchestrators: list[Orchestrator] = []
        self.broken: list[str] = []
        self.log = log
        self.ledger = SimulatedLedger(self._is_silent, lambda run: self._by_name[run].died_at is not None)
        self.flying: dict[str, tuple[Orchestrator, str, int, int]] = {}
        self._by_name: dict[str, Orchestrator] = {}
        self._queue: list[tuple[float, int, Orchestrator | None, Callable[[], None]]] = []
        self._sequence = 0
        self._crashes = list(scenario.crashes)

    def send(self, at: float, orchestrator: Orchestrator | None, action: Callable[[], None]) -> None:
        """Have something happen at a moment; of one moment, what was sent first happens first."""
        self._sequence += 1
        heapq.heappush(self._queue, (at, self._sequence, orchestrator, action))

    def run(self, events_at_most: int = EVENTS_AT_MOST) -> Simulation:
        """Go on until nothing more can happen, and return the simulation."""
        for index, start in enumerate(self.scenario.starts):
            self.send(start, None, lambda index=index: self._begin(index, 0))  # type: ignore[misc]
        for cancel in self.scenario.cancels:
            self.send(cancel.at, None, lambda one=cancel: self._newest(one.run, lambda run: run.cancel(one.name)))  # type: ignore[misc]
        for silence in self.scenario.silences:
            self.send(silence.at, None, lambda one=silence: self._newest(one.run, lambda run: run.block(one.seconds)))  # type: ignore[misc]
        count = 0
        while count < events_at_most and not self.broken and self._step():
            count += 1
        self.broken += self.ledger.broken
        if count == events_at_most:
            self.broken.append(f"ends: still busy after {count:,} events")
        for one in self.orchestrators:
            if one.died_at is None and not self.broken:
                self.broken += one.broken_at_end()
        return self

    def _step(self) -> bool:
        wake, sleeper = float("inf"), None
        for one in self.orchestrators:
            if one.wake_at < wake:
                wake, sleeper = one.wake_at, one
        if self._queue and self._queue[0][0] <= wake:
            at, sequence, orchestrator, action = heapq.heappop(self._queue)
            if orchestrator is None or orchestrator.died_at is None:
                if orchestrator is not None and at < orchestrator.busy_until:
                    heapq.heappush(self._queue, (orchestrator.busy_until, sequence, orchestrator, action))
                    return True
                self.now = max(self.now, at)
                self._within(orchestrator, action)
        elif sleeper is not None:
            self.now = max(self.now, wake)
            self._within(sleeper, sleeper.time_passed)
        else:
            return False
        return True

    def _within(self, orchestrator: Orchestrator | None, action: Callable[[], None]) -> None:
        try:
            action()
        except Crashed as crash:
            self._die(crash.orchestrator)
        except Exception as error:  # noqa: BLE001 - whatever the machine raises is what we look for
            self.broken.append(f"raises nothing: {type(error).__name__}: {error}")
        if orchestrator is not None:
            self.broken += orchestrator.take_broken()

    def _begin(self, index: int, incarnation: int) -> None:
        crash_after = self._crashes.pop(0) if index == 0 and self._crashes else None
        one = Orchestrator(self, index, incarnation, crash_after)
        self.orchestrators.append(one)
        self._by_name[one.name] = one
        self.send(self.now, one, one.begin)

    def _newest(self, index: int, act: Callable[[Orchestrator], None]) -> None:
        found = [one for one in self.orchestrators if one.index == index and one.died_at is None]
        if found:
            self.send(self.now, found[-1], lambda: act(found[-1]))

    def _die(self, orchestrator: Orchestrator) -> None:
        orchestrator.died_at, orchestrator.wake_at = self.now, float("inf")
        if self.log is not None:
            self.log(f"{self.now:9.3f} {orchestrator.name} !! its orchestrator dies")
        back = self.now + 2.0 * self.scenario.chance("back", orchestrator.name)
        self.send(back, None, lambda: self._begin(orchestrator.index, orchestrator.incarnation + 1))

    def _is_silent(self, run: str) -> bool:
        one = self._by_name[run]
        if one.died_at is not None:
            return self.scenario.crash_seen or self.now >= one.died_at + LEASE_S
        return self.now < one.busy_until and self.now >= one.busy_since + LEASE_S


def broken_laws(scenario: Scenario) -> list[str]:
    """Simulate a scenario and return the laws that did not hold, each as ``law: what happened``.

    The simulation ends with the first turn in which a law breaks.
    """
    return Simulation(scenario).run().broken
