"""Graphics processors of a machine that several sessions use: one session at a time has each."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from mlflow_pipes.digests import digest_record
from mlflow_pipes.machine.locks import exclusive, locked

_TAKES_WITHIN_S = 10.0


class GpuLocks:
    """A lock for each graphics processor, which the kernel frees when this process ends.

    Args:
        folder: of the locks; what all sessions share.
        names: of the graphics processors, by their numbers, the same in all sessions.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._files = [folder / digest_record("pipes.gpu/1", (socket.gethostname(), name))[:16] for name in names]
        self._held: dict[int, int] = {}

    def take(self, numbers: Sequence[int], count: int) -> tuple[int, ...] | None:
        """Lock *count* of these; return which, or None when other sessions have too many of them: none is locked then.

        Raises:
            OSError, WorldError: the locks cannot be used.
        """
        taken: dict[int, int] = {}
        with exclusive(self._folder / "taking", what="taking graphics processors", timeout_s=_TAKES_WITHIN_S):
            for number in numbers:
                if len(taken) == count:
                    break
                descriptor = locked(self._files[number])
                if descriptor is not None:
                    taken[number] = descriptor
            if len(taken) < count:
                for descriptor in taken.values():
                    os.close(descriptor)
                return None
        self._held.update(taken)
        return tuple(taken)

    def give_back(self, numbers: Sequence[int]) -> None:
        """Free those that are locked."""
        for number in numbers:
            os.close(self._held.pop(number))
