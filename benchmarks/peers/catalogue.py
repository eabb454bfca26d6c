"""The tools that are compared, what each does in the set-up measured, and what it says about reuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OURS = "mlflow_pipes"


@dataclass(frozen=True)
class Peer:
    """A tool in one set-up.

    Attributes:
        name: of its files in this folder, and of its environment. variant: what its script is told to use.
        label: in the results. does_steps_in, stores, records: in the set-up that is measured. reuse: how it finds a
        known result; "" when it has no cache. needs: what is asked of the package index when the pins are renewed.
    """

    name: str
    variant: str
    label: str
    does_steps_in: str
    stores: str
    records: str
    reuse: str
    needs: tuple[str, ...] = ()

    @property
    def script(self) -> Path:
        """The script that carries out the graphs."""
        return HERE / f"{self.name}_graphs.py"

    @property
    def probe(self) -> Path:
        """The program whose copies are edited."""
        return HERE / f"{self.name}_probe.py"

    @property
    def pins(self) -> Path:
        """Its pinned requirements."""
        return HERE / f"{self.name}.txt"


_OUR_REUSE = "content of inputs and all first-party code that the step reaches"
_DAGSTER = ("pickle a step, in a folder", "events in SQLite")

PEERS = (
    Peer(OURS, "local", "mlflow_pipes, local", "2 processes, started for each run", "each output, by content",
         "ledger (SQLite); MLflow in the background", _OUR_REUSE),
    Peer(OURS, "inline", "mlflow_pipes, inline", "the calling thread", "each output, by content",
         "ledger (SQLite); MLflow in the background", _OUR_REUSE),
    Peer("dask", "processes", "Dask (distributed)", "2 processes, which run already", "nothing", "nothing", "",
         ("distributed",)),
    Peer("joblib", "loky", "joblib (Memory, Parallel)", "chain: the calling thread; else 2 processes, running already",
         "pickle a call, in a folder", "nothing", "arguments and the function's own source", ("joblib",)),
    # Prefect 3.8.8's server does not start with a newer fastapi: "Body() got an unexpected keyword argument".
    Peer("prefect", "threads", "Prefect", "chain: the calling thread; else threads; a server that runs already",
         "pickle a task, in a folder", "server with SQLite", "inputs and the task's own source (as configured)",
         ("prefect", "fastapi<0.141")),
    Peer("dagster", "in_process", "Dagster, in process", "the calling thread", *_DAGSTER, "", ("dagster",)),
    Peer("dagster", "multiprocess", "Dagster, multiprocess", "a process a step from a forkserver, 2 at once", *_DAGSTER,
         "", ("dagster",)),
    Peer("metaflow", "local", "Metaflow", "a process a step, 2 at once; a process for the run",
         "pickle an artifact, in a folder", "files in the same folder", "", ("metaflow",)),
    Peer("luigi", "local", "Luigi", "a forked process a step, 2 at once", "a file a step, as the task writes it",
         "nothing", "the output is there", ("luigi",)),
    Peer("redun", "local", "redun", "threads", "values in SQLite", "call graph in SQLite",
         "arguments and the task's own source; what `hash_includes` names", ("redun",)),
    Peer("hamilton", "local", "Hamilton", "the calling thread", "pickle a node, in a folder",
         "cache metadata in SQLite", "inputs and the node's own source", ("apache-hamilton",)),
)  # fmt: skip

#: Why a tool has no probe. An edit cannot give a stale result where nothing is reused.
NO_CACHE = {
    "dask": "results live as long as their futures; nothing is kept from one program to the next",
    "dagster": "a job computes all its ops each time; assets show staleness by a `code_version` set by hand",
    "metaflow": "no reuse between runs; `resume` clones the steps of a run that it is told, whatever their code is now",
}

#: The environment of every script: quiet, nothing phones home, nothing is read from the user's own folder.
ENVIRON = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # its 20 s are too few on a busy machine
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "METAFLOW_DEFAULT_DATASTORE": "local",
    "METAFLOW_DEFAULT_METADATA": "local",
    "METAFLOW_DEFAULT_EVENT_LOGGER": "nullSidecarLogger",
    "METAFLOW_DEFAULT_MONITOR": "nullSidecarMonitor",
    "METAFLOW_USER": "benchmark",
    "HAMILTON_TELEMETRY_ENABLED": "false",
    "PIPES_DISPLAY": "off",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
