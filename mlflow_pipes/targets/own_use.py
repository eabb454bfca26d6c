"""What an attempt in this very process uses, looked at by a thread of its own."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from mlflow_pipes.targets.local.process_trees import own_use
from mlflow_pipes.targets.local.sampling import FIRST_LOOK_S, Looks
from mlflow_pipes.targets.local.wire import Measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_pipes.model.attempt import AttemptId, UsageSample


class OwnUse:
    """Looks at this process while an attempt runs in it.

    One thread for all attempts, which looks up once in two seconds: an attempt that is shorter pays an assignment.

    Args:
        tell: takes the samples, in that thread.
    """

    def __init__(self, tell: Callable[[UsageSample], None]) -> None:
        self._tell = tell
        self._under_way: tuple[AttemptId, Looks] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="what inline steps use", daemon=True)
        self._thread.start()

    def begin(self, attempt: AttemptId) -> None:
        """Look at this process on behalf of an attempt."""
        self._under_way = (attempt, Looks(time.monotonic()))

    def end(self) -> None:
        """Look no more."""
        self._under_way = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _serve(self) -> None:
        sleep_s = FIRST_LOOK_S
        while not self._closed.wait(sleep_s):
            under_way = self._under_way
            if under_way is None:
                sleep_s = FIRST_LOOK_S
                continue
            attempt, looks = under_way
            if looks.due <= time.monotonic():
                self._look(attempt, looks)
            sleep_s = max(0.0, min(looks.due - time.monotonic(), FIRST_LOOK_S))

    def _look(self, attempt: AttemptId, looks: Looks) -> None:
        looks.looked(time.monotonic())
        use = own_use()
        if use is not None:
            sample = looks.sample(attempt, Measured(os.getpid(), time.time(), use.cpu_s, use.memory_bytes, ()))
            if sample is not None and self._under_way is not None and self._under_way[0] == attempt:
                self._tell(sample)
