"""How tests wait for what takes moments: long, for machines may be busy."""

import time

from mlflow_pipes.testing.target_driver import PATIENCE_S


def wait_until(reached, told=lambda: "it did not come true in time", within_s=PATIENCE_S):
    """Wait until ``reached()``; fail with what is ``told()`` when it takes too long."""
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, told()
        time.sleep(0.02)
