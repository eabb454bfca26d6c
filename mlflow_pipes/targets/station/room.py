"""What the stations of one process share: room for attempts, given in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_pipes.targets.station.gpu_locks import GpuLocks

_TOLERANCE = 1e-9  # sums of parts of processors are not exact


class Room:
    """Places, processors and graphics processors of one machine, or of one worker of a cluster; thread-safe.

    Each who asks has one attempt in the queue. The first waits until there is room for it, and nobody behind it gets
    any meanwhile: else a large one would never begin.

    Args:
        slots: how many attempts run at once, and the sum of their ``cpus``.
        gpus: how many graphics processors there are.
        locks: keep other processes of the machine from having the same ones.

    Attributes:
        waits_for_others: the first in the queue waits for what another process has: it is to ask again by itself.
    """

    def __init__(self, slots: int, gpus: int = 0, locks: GpuLocks | None = None) -> None:
        self.slots = slots
        self.gpus = gpus
        self.waits_for_others = False
        self._locks = locks
        self._lock = threading.Lock()
        self._free_slots = slots
        self._free_cpus = float(slots)
        self._free_gpus = list(range(gpus))
        self._queue: dict[object, Callable[[], None]] = {}

    def take(self, who: object, cpus: float, gpus: int, wake: Callable[[], None]) -> tuple[int, ...] | None:
        """Take room for an attempt; return the numbers of its graphics processors, None when there is no room yet.

        Args:
            who: asks; stands in the queue until it has room, or leaves.
            cpus: of the attempt.
            gpus: as *cpus*.
            wake: called from any thread when it is worth asking again.

        Raises:
            OSError, WorldError: locks cannot be used.
        """
        with self._lock:
            self._queue.setdefault(who, wake)
            is_first = next(iter(self._queue)) is who
            has_room = self._free_slots > 0 and cpus <= self._free_cpus + _TOLERANCE and gpus <= len(self._free_gpus)
            if not (is_first and has_room):
                return None
            given = self._gpus(gpus)
            self.waits_for_others = given is None
            if given is None:
                return None
            del self._queue[who]
            self._free_slots -= 1
            self._free_cpus -= cpus
            self._free_gpus = [number for number in self._free_gpus if number not in given]
            follower = self._first()
        follower()
        return given

    def give_back(self, cpus: float, gpus: tuple[int, ...]) -> None:
        """Free the room of an attempt that has ended."""
        with self._lock:
            self._free_slots += 1
            self._free_cpus += cpus
            self._free_gpus = sorted([*self._free_gpus, *gpus])
            if self._locks is not None:
                self._locks.give_back(gpus)
            follower = self._first()
        follower()

    def leave(self, who: object) -> None:
        """Ask no more."""
        with self._lock:
            if self._queue.pop(who, None) is None:
                return
            follower = self._first()
        follower()

    def _gpus(self, count: int) -> tuple[int, ...] | None:
        if self._locks is None or not count:
            return tuple(self._free_gpus[:count])
        return self._locks.take(self._free_gpus, count)

    def _first(self) -> Callable[[], None]:
        return next(iter(self._queue.values()), _nobody)


def _nobody() -> None:
    pass
