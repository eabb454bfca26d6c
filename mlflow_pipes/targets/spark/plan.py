"""Which Spark a target uses: what is configured, and the settings that follow from it."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.quick_dataclasses import dataclass

_LOOPBACK = "127.0.0.1"
_CONNECT_PORT = 15002
_KNOWN = ("local", "spark://", "yarn", "k8s://", "sc://")


@dataclass(frozen=True, slots=True)
class SparkPlan:
    """The keys of ``[targets.NAME]``.

    Attributes:
        master: of Spark's kinds, or the address of a Spark Connect server.
        conf: Spark's own settings, over ours.
        python: interpreter of the executors; empty for what Spark's environment says, else this one.
        host: name or address by which executors reach this machine; empty for what the master leads to.
        tasks: how many tasks there are at once at most; None for as many as the cluster has room for.
        sessions: how many Spark steps run at once.
        connect_timeout_s: how long Spark may take to start, or to be connected to.
        no_workers_timeout_s: an attempt for which no task begins fails after that time.
    """

    master: str = "local[*]"
    conf: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    host: str = ""
    tasks: int | None = None
    sessions: int = 4
    connect_timeout_s: float = 120.0
    no_workers_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse masters that there cannot be."""
        if not self.master.startswith(_KNOWN):
            raise ConfigurationError(
                f"there is no Spark master {self.master!r}: write local[*], spark://HOST:PORT, yarn, k8s://…, or "
                "sc://HOST:PORT for a Spark Connect server"
            )

    @property
    def is_connect(self) -> bool:
        """Whether the driver is a server of somebody else's."""
        return self.master.startswith("sc://")

    @property
    def is_local(self) -> bool:
        """Whether the executors are in the driver."""
        return self.master.startswith("local")

    @property
    def where(self) -> str:
        """The master, for messages; without what proves who we are."""
        return re.sub(r"(token=)[^;]*", r"\1***", self.master)

    def reached_at(self) -> str:
        """Return the name or address by which executors reach this machine."""
        named = self.host or str(self.conf.get("spark.driver.host", ""))
        if named or self.is_local:
            return named or _LOOPBACK
        place = re.match(r"(?:spark|sc)://([^:/;,]+)(?::(\d+))?", self.master)
        if place is not None:
            with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((place[1], int(place[2] or _CONNECT_PORT)))  # sends nothing
                return str(probe.getsockname()[0])
        return socket.getfqdn()

    def listens_at(self, reached_at: str) -> str:
        """Return the address to listen at: no wider than who comes there needs."""
        named = str(self.conf.get("spark.driver.bindAddress", ""))
        is_loopback = reached_at == "localhost" or reached_at.startswith("127.")
        return named or (_LOOPBACK if is_loopback else "0.0.0.0")  # noqa: S104 - who comes must know the secret

    def settings(self, reached_at: str, warehouse: str, token: str) -> dict[str, str]:
        """Return the settings of a driver of our own; who has a session there knows the token."""
        ours = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": reached_at,
            "spark.sql.warehouse.dir": warehouse,
            "spark.connect.grpc.binding.address": _LOOPBACK,
            "spark.connect.grpc.binding.port": "0",
            "spark.connect.authenticate.token": token,
            "spark.sql.artifact.isolation.enabled": "true",
        }
        return ours | {name: _as_spark_writes(value) for name, value in self.conf.items()}


def with_session(remote: str, session: str) -> str:
    """Return an address with the id of a session.

    >>> with_session("sc://host:15002", "5f")
    'sc://host:15002/;session_id=5f'
    >>> with_session("sc://host/;token=t", "5f")
    'sc://host/;token=t;session_id=5f'
    """
    slash = "" if "/" in remote.removeprefix("sc://") else "/"
    return f"{remote.rstrip(';')}{slash};session_id={session}"


def _as_spark_writes(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
