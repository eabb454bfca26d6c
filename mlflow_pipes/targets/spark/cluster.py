"""Spark, as a target has it: started when it is first needed, asked for tasks, ended."""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import PipesError, TargetError
from mlflow_pipes.ports import Portable
from mlflow_pipes.targets.spark.driver_link import DriverLink
from mlflow_pipes.targets.spark.greeting import Arrived, Look
from mlflow_pipes.targets.spark.inbox import Gone, Heard, Inbox, Opened, Told
from mlflow_pipes.targets.spark.java import java_home
from mlflow_pipes.targets.spark.reception import Reception
from mlflow_pipes.targets.spark.troubles import explained
from mlflow_pipes.targets.station.letters import Open
from mlflow_pipes.targets.station.messages import setup_of
from mlflow_pipes.worker.secrets import PREFIX

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.spark.plan import SparkPlan

_NOT_AGAIN_S = 10.0  # after Spark could not be had, attempts fail at once


class Cluster:
    """A driver, and where its tasks come to.

    Used by one thread.

    Args:
        name: the target's.
        plan: which Spark.
        datastore: where inputs and outputs are.
        folder: for the driver's files.
        workspace: the workspace's folder, for ``current_run()``.
        environ: environment variables of attempts.
        inbox: where all that it hears is put.

    Attributes:
        tasks: how many tasks there is room for, as far as that is known; else 0.
        task_cpus: how many processors each has.
        grows: there may be more room when more is asked for.
    """

    def __init__(
        self,
        name: str,
        plan: SparkPlan,
        datastore: Datastore,
        folder: Path,
        *,
        workspace: str,
        environ: Mapping[str, str],
        inbox: Inbox,
    ) -> None:
        self.tasks = 0
        self.task_cpus = 1.0
        self.grows = False
        self._name, self._plan, self._datastore = name, plan, datastore
        self._folder = folder / f"spark-{name}-{os.getpid()}-{secrets.token_hex(4)}"
        self._workspace, self._environ, self._inbox = workspace, environ, inbox
        self._reception: Reception | None = None
        self._link: DriverLink | None = None
        self._starts_until: float | None = None
        self._not_before = 0.0
        self._why = ""
        self._jobs = 0
        self._blob: Any = None
        self._is_log_told = False

    @property
    def is_up(self) -> bool:
        """Whether it can be asked for tasks."""
        return self._link is not None and self._starts_until is None

    @property
    def is_starting(self) -> bool:
        """Whether it will be up soon, or turn out not to be."""
        return self._starts_until is not None

    def is_current(self, link: object) -> bool:
        """Tell whether this is the driver that there is."""
        return link is self._link

    def explained(self, said: str) -> str:
        """Return what is wrong, by what Spark said."""
        return explained(self._plan.where, said, str(self._log))

    @property
    def _log(self) -> Path:
        return self._folder / "driver.log"

    # --- beginning ------------------------------------------------------------------------------------------------

    def want(self) -> str:
        """Begin to start Spark where there is none; return why that is of no use, empty while it may be."""
        if self._link is not None:
            return ""
        now = time.monotonic()
        if now < self._not_before:
            return self._why
        try:
            self._start(now)
        except (PipesError, OSError) as error:
            return self._give_up(str(error))
        return ""

    def look(self, now: float) -> str:
        """Return why Spark did not start in time; empty while all is well."""
        if self._starts_until is None or now < self._starts_until or self._link is None:
            return ""
        words = self._link.last_words()
        self._end(kill=True)
        waited = f"within connect_timeout={self._plan.connect_timeout_s:g} s"
        return self._give_up(f"{self.explained(words)} (Spark did not answer {waited})")

    def take_facts(self, facts: Mapping[str, Any], *, is_ready: bool) -> None:
        """Take note of what the driver says of its Spark."""
        self.tasks, self.task_cpus, self.grows = int(facts["tasks"]), float(facts["task_cpus"]), bool(facts["grows"])
        if is_ready:
            self._starts_until = None

    def failed_by(self, said: str) -> None:
        """Take note of why the driver is about to go."""
        self._why = said

    def lost(self) -> str:
        """Take note that the driver is gone; return what to say of that."""
        assert self._link is not None
        was_starting, words = self.is_starting, self._link.last_words()
        said, self._why = self._why, ""
        self._end(kill=True)
        if was_starting:
            return self._give_up(self.explained(f"{said}\n{words}" if said else words))
        return f"the driver of Spark at {self._plan.where} went away, and all that it had under way with it"

    def _give_up(self, why: str) -> str:
        self._is_log_told = self._is_log_told or str(self._log) in why
        self._why, self._not_before = why, time.monotonic() + _NOT_AGAIN_S
        return why

    def _start(self, now: float) -> None:
        plan = self._plan
        self._folder.mkdir(parents=True, exist_ok=True)
        environ = {}
        if not plan.is_connect:
            home = java_home(os.environ, self._folder.parent)
            environ = {"JAVA_HOME": home} if home else {}
        reached_at = plan.reached_at()
        secret, token = secrets.token_bytes(32), secrets.token_hex(32)
        reception = self._open_reception(plan.listens_at(reached_at), secret)
        setup = {
            "name": f"mlflow_pipes {self._name}",
            "master": plan.master,
            "settings": plan.settings(reached_at, str(self._folder / "warehouse"), token),
            "python": plan.python,
            "environ": environ,
            "host": reached_at,
            "port": reception.port,
            "secret": secret.hex(),
            "token": token,
            "folder": str(self._folder),
        }
        self._reception = reception
        self._starts_until = now + plan.connect_timeout_s
        self._link = DriverLink(setup, self._log, lambda link, said: self._inbox.put(Heard(link, said)))

    def _open_reception(self, address: str, secret: bytes) -> Reception:
        self._blob = self._datastore.put([secrets.token_bytes(32)])
        return Reception(
            address,
            secret,
            look=Look(pickle.dumps(self._datastore, 5), self._blob),
            datastore=self._datastore,
            opening=self._opening,
            on_opened=lambda visitor: self._inbox.put(Opened(visitor)),
            on_told=lambda visitor, events, absent: self._inbox.put(Told(visitor, events, absent)),
            on_gone=lambda visitor, why: self._inbox.put(Gone(visitor, why)),
        )

    def _opening(self, arrived: Arrived) -> Open:
        if arrived.sees:
            store = self._datastore
        elif isinstance(self._datastore, Portable):
            store = self._datastore.at(f"{arrived.folder}/store")
        else:
            raise TargetError(f"executors on {arrived.host} do not reach the datastore of target {self._name!r}")
        given = {name: text for name, text in os.environ.items() if name.startswith(PREFIX)}
        setup = setup_of(self._name, store, self._workspace, {**given, **self._environ})
        return Open(setup, not arrived.sees, slots=1, gpus=0)

    # --- work -----------------------------------------------------------------------------------------------------

    def ask(self, count: int) -> str:
        """Ask for tasks; return the name of their job."""
        assert self._link is not None
        self._jobs += 1
        job = str(self._jobs)
        self._link.say({"do": "tasks", "job": job, "count": count})
        return job

    def say(self, what: Mapping[str, Any]) -> None:
        """Tell the driver something; nothing happens when there is none."""
        if self._link is not None:
            self._link.say(what)

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the driver with all that it has under way; only a log that an error named stays."""
        self._end(kill=self.is_starting)
        if not self._is_log_told:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, *, kill: bool) -> None:
        link, self._link = self._link, None
        reception, self._reception = self._reception, None
        self._starts_until = None
        if link is not None:
            link.kill() if kill else link.end()
        if reception is not None:
            reception.close()
        blob, self._blob = self._blob, None
        if blob is not None:
            with suppress(PipesError):
                self._datastore.delete([blob])
