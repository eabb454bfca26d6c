"""The process of a cluster that outlives runs: ``python -m mlflow_pipes.targets.dask.cluster_main FOLDER``.

It ends when it is told to, when the cluster has ended, and when the workspace does not name it any more.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_pipes.machine.daemons import detach
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.targets.dask.managed import FAILURE, PLAN, PROCESS, ClusterRecord, read_record

_LOOK_EVERY_S = 2.0
_ORPHAN_AFTER_S = 20.0


def main() -> None:
    """Have a cluster until told to end."""
    folder = Path(sys.argv[1])
    plan = pickle.loads((folder / PLAN).read_bytes())
    detach(folder / PROCESS)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    import dask
    from distributed.security import Security

    from mlflow_pipes.targets.dask.clusters import CONFIGURATION, make_cluster

    with dask.config.set(CONFIGURATION):
        try:
            cluster = make_cluster(plan, Security(**plan.security) if plan.security else None)
        except Exception as error:
            why = f"cannot make a {plan.cluster}: {type(error).__name__}: {error}"
            write_whole(folder / FAILURE, str(error) if hasattr(error, "exit_code") else why)
            raise
        try:
            record = ClusterRecord(os.getpid(), this_process(), this_host(), cluster.scheduler_address)
            record.write(folder)
            _wait(told, cluster, record, folder)
        finally:
            with suppress(Exception):  # part of it may be gone
                cluster.close(timeout=10)


def _wait(told: threading.Event, cluster: Any, record: ClusterRecord, folder: Path) -> None:
    named_at = time.monotonic()
    while not told.wait(_LOOK_EVERY_S):
        if str(getattr(cluster.status, "name", cluster.status)) in {"closed", "failed"}:
            sys.exit("the cluster has ended by itself")
        if read_record(folder) == record:
            named_at = time.monotonic()
        elif time.monotonic() > named_at + _ORPHAN_AFTER_S:
            return


if __name__ == "__main__":
    main()
