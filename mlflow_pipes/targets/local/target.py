"""``LocalTarget``: attempts in worker processes of this machine that can be killed and replaced."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import TargetError
from mlflow_pipes.machine import capacity
from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.targets.local import spare_zygote, wire
from mlflow_pipes.targets.local.crews import Crews, elsewhere, key_of
from mlflow_pipes.targets.local.gpus import named_gpus, seeing_its_gpus
from mlflow_pipes.targets.local.reporter import Reporter
from mlflow_pipes.targets.local.sampling import Looks
from mlflow_pipes.targets.local.worker_link import Output, State, WorkerLink
from mlflow_pipes.targets.local.zygote_link import ZygoteLink
from mlflow_pipes.worker.execute import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow_pipes.model.attempt import Assignment, AttemptId, TargetEvent
    from mlflow_pipes.model.step import FunctionReference
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.targets.local.crews import Key

_MOST_START_FAILURES = 3
_US = __name__.partition(".")[0]


class LocalTarget:
    """A pool of worker processes, polled by the engine's loop; it has no thread of its own.

    Workers are started when there is work for them, or when some is expected, and kept. What they are forked from stays
    for this process's next run. An attempt that takes too long or is cancelled is killed with SIGKILL, with all
    processes that it started (but those that left its session and whose parent has ended), and its worker is replaced.
    Attempts with an environment have workers of its interpreter, within the same number.
    A worker that dies fails its attempt as ``LOST`` and nothing else. When this process dies, however it dies, all
    workers and what they started die, too.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are; sent to the workers by pickle.
        workers: how many attempts run at once; by default as many as there are processors for this process.
        cpus: sum of the ``cpus`` of attempts that run at once; by default as many as workers.
        memory_bytes: sum of the ``memory_bytes`` of attempts that run at once; by default the machine's.
        gpus: how many graphics processors attempts can have; by default as many as this process may use.
        checkout: folder where input files are laid out for reading.
        scratch: folder in which attempts have their temporary folders.
        workspace: the workspace's folder, for ``current_run()``.
        environ: environment variables of the workers, over this process's own.
        preload: modules to import once, before workers are forked; not the user's own, and none that starts threads.
        cwd: folder that attempts begin in; by default this process's working folder.
        path: folders that workers import from before all others.
    """

    runs_environments = True

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        workers: int | None = None,
        cpus: float | None = None,
        memory_bytes: int = 0,
        gpus: int | None = None,
        checkout: Path,
        scratch: Path,
        workspace: str = "",
        environ: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
        cwd: str | None = None,
        path: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.workers = workers or capacity.processors()
        self._cpus = float(cpus or self.workers)
        self._memory_bytes = memory_bytes or capacity.memory_bytes()
        self._gpus = named_gpus(gpus)
        self._datastore = datastore
        self._checkout = checkout
        self._scratch = scratch
        self._workspace = workspace
        self._environ = dict(environ or {})
        self._preload = tuple(preload)
        self._cwd = cwd
        self._path = list(path)
        self._pickled_datastore = b""
        self._open = False
        self._broken: dict[Key, str] = {}
        self._reporter = Reporter(name, {}, lambda _: None)
        self._crews = Crews(self._zygote_for, self._end_zygote, self)
        self._inherited: object = None
        self._idle: list[WorkerLink] = []
        self._waiting: deque[Assignment] = deque()
        self._restarted: set[AttemptId] = set()

    # --- the port ------------------------------------------------------------------------------------------------

    def start(self, report: Callable[[TargetEvent], None]) -> None:
        """Make ready to take attempts; starts no process yet."""
        self._reporter = Reporter(self.name, self._environ, report)
        self._open = True
        try:
            self._pickled_datastore = pickle.dumps(self._datastore, 5)
        except Exception as error:
            raise TargetError(
                f"target {self.name!r} cannot send its {type(self._datastore).__name__} to worker processes: {error}; "
                f"use the target 'inline' or another datastore"
            ) from error

    def capacity(self) -> Capacity:
        """Return what the pool holds at once."""
        return Capacity(self._cpus, self._memory_bytes, self.workers, len(self._gpus))

    def warm(self, functions: Sequence[FunctionReference], environ: Mapping[str, str]) -> None:
        """Start workers that import what *functions* are found in: one for each entry, as far as there are places."""
        distinct = list({id(function): function for function in functions}.values())
        try:
            for _ in range(min(len(functions), self.workers - len(self._crews.links())) if self._open else 0):
                link = self._crews.own.spawn()
                link.warm(distinct, environ)
                self._crews.own.flush(link)
        except (TargetError, OSError):
            return  # the first attempt will meet the same, and tell

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt; more than there are workers wait."""
        if not self._open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        if self._broken:
            key = key_of(assignment.environment)
            if key is not None and assignment.attempt.number > 1:  # what an environment is built of may be there by now
                self._broken.pop(key, None)
            if key in self._broken:
                raise TargetError(self._broken[key])
        self._waiting.append(seeing_its_gpus(assignment, self._gpus))
        self._dispatch()

    def cancel(self, attempt: AttemptId) -> None:
        """Kill the worker that does an attempt, or drop one that waits."""
        for assignment in self._waiting:
            if assignment.attempt == attempt:
                self._waiting.remove(assignment)
                self._reporter.failed(assignment, Failure(FailureKind.CANCELLED, "cancelled before it began"))
                return
        for link in self._crews.links():
            if link.state is State.BUSY and link.assignment is not None and link.assignment.attempt == attempt:
                self._crews.of(link).kill(link, FailureKind.CANCELLED, "cancelled; its process was killed")
                return

    def filenos(self) -> Iterable[int]:
        """Return the one descriptor that is readable when anything happened."""
        return (self._crews.fileno(),)

    def poll(self) -> None:
        """Report what has happened, kill what is past its time, give work to idle workers."""
        self._crews.poll()
        self._dispatch()

    def next_deadline(self) -> float | None:
        """Return when a worker is to be looked after."""
        return self._crews.next_deadline()

    def close(self) -> None:
        """Kill what runs, let idle workers exit, and wait until nothing is left."""
        was_open, self._open = self._open, False
        while self._waiting:
            failure = Failure(FailureKind.CANCELLED, "the target was closed before it began")
            self._reporter.failed(self._waiting.popleft(), failure)
        for link in self._crews.links():
            if link.state is State.BUSY or not link.has_worked:
                self._crews.of(link).kill(link, FailureKind.CANCELLED, "the target was closed; its process was killed")
            elif link.state in {State.IDLE, State.STARTING}:
                self._crews.of(link).let_go(link)
        if was_open or self._crews.own.zygote is None:
            self._crews.close()

    # --- what the crew tells -------------------------------------------------------------------------------------

    def heard(self, link: WorkerLink, message: Any) -> None:
        """Take what a worker said."""
        assignment = link.assignment
        if isinstance(message, wire.Ready):
            if link.state is State.STARTING:
                self._rest(link)
        elif assignment is None:
            return  # said by a thread that an attempt left behind
        elif isinstance(message, wire.Ended):
            self._on_ended(link, assignment, message)
        else:
            self._reporter.said(assignment, message)

    def wrote(self, link: WorkerLink, output: Output, lines: list[str]) -> None:
        """Take what a worker wrote."""
        self._reporter.lines(link, output, lines)

    def measured(self, link: WorkerLink, measured: wire.Measured) -> None:
        """Take what a worker uses."""
        if link.assignment is not None and link.looks is not None:
            self._reporter.sampled(link.looks.sample(link.assignment.attempt, measured))

    def gone(self, link: WorkerLink) -> None:
        """Answer for the attempt of a dead worker."""
        if link.assignment is not None:
            self._sweep(link.assignment)
            self._reporter.died(link, link.assignment)
        elif self._open and self._crews.of(link).start_failures >= self._most_start_failures(link.environment):
            words = "\n".join(link.last_errors)
            told = f"workers of target {self.name!r}{self._in_words(link.environment)} end before they are ready"
            self._break(link.environment, f"{told}: {link.how_ended}\n{words}".strip())

    # --- giving work ---------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        for _ in range(len(self._waiting)):
            assignment = self._waiting.popleft()
            link = self._idle_for(assignment)
            if link is None:
                self._waiting.append(assignment)
            else:
                self._begin(link, assignment)
        if self._waiting and self._open:
            self._man()

    def _man(self) -> None:
        """Start workers for what waits, as far as there are places; idle ones that are of no use to it give way."""
        links = self._crews.links()
        starting = Counter([link.environment for link in links if link.state is State.STARTING])
        wanted: list[Assignment] = []
        for assignment in self._waiting:
            key = None if assignment.environment is None else key_of(assignment.environment)
            if starting[key]:
                starting[key] -= 1
            else:
                wanted.append(assignment)
        leaving = sum(link.state is State.LEAVING for link in links)
        if len(wanted) > leaving and len(links) >= self.workers and self._idle:
            idle = self._idle.pop()  # it has not the environment, or is not fresh and graphics processors are asked for
            self._crews.of(idle).let_go(idle)
        for assignment in wanted[: max(0, self.workers - len(links))]:
            crew = self._crews.crew_for(assignment)
            try:
                crew.hear(crew.spawn())
            except TargetError as error:
                self._break(crew.environment, str(error))

    def _idle_for(self, assignment: Assignment) -> WorkerLink | None:
        """Take an idle worker: the one that worked last, whose caches are warm; for graphics processors a fresh one.

        A process keeps to the graphics processors that it saw first, and to memory on them until it ends.
        """
        self._idle = [link for link in self._idle if link.state is State.IDLE]
        key = None if assignment.environment is None else key_of(assignment.environment)
        fitting = [link for link in self._idle if link.environment == key and (link.is_fresh or not assignment.gpus)]
        if not fitting:
            return None
        self._idle.remove(fitting[-1])
        return fitting[-1]

    def _begin(self, link: WorkerLink, assignment: Assignment) -> None:
        link.state = State.BUSY
        link.assignment = assignment
        link.has_worked = True
        link.is_fresh = False
        crew = self._crews.of(link)
        crew.hear(link)
        link.started_at = time.time()
        link.looks = Looks(time.monotonic())
        link.last_errors.clear()
        if assignment.timeout_s is not None:
            message = f"took longer than timeout_s={assignment.timeout_s:g}; its process was killed"
            link.expect(assignment.timeout_s, (FailureKind.TIMEOUT, message))
        link.send(assignment)
        if link.outgoing:
            crew.flush(link)
        if assignment.attempt in self._restarted:
            self._restarted.discard(assignment.attempt)
        else:
            self._reporter.started(link, assignment)

    def _on_ended(self, link: WorkerLink, assignment: Assignment, ended: wire.Ended) -> None:
        link.assignment = link.deadline = link.overdue = link.looks = None
        if ended.stale and link.state is State.BUSY:
            self._crews.of(link).let_go(link)
            self._restarted.add(assignment.attempt)
            self._waiting.appendleft(assignment)
            return
        if link.state is State.BUSY:
            if ended.worn or assignment.gpus:
                self._crews.of(link).let_go(link)
            else:
                self._rest(link)
        self._reporter.ended(link, assignment, ended)

    def _rest(self, link: WorkerLink) -> None:
        link.state = State.IDLE
        self._idle.append(link)

    def _zygote_for(self, like: Assignment | None) -> ZygoteLink:
        """Return a zygote; of the environment of an attempt, where one is given."""
        environ = {**os.environ, **self._environ}
        setup = self._setup()
        if like is None or like.environment is None:
            self._inherited = spare_zygote.inherited(environ)
            spare = spare_zygote.take(self._inherited) if self._leaves_zygotes_clean() else None
            zygote = spare or ZygoteLink(environ)
        else:
            if not like.environment.is_ready:
                self._reporter.note(like, f"environment {like.environment.name!r} is not there yet; it is built first")
            zygote, setup = elsewhere(like, setup, environ, self._checkout.parent)
        zygote.set_up(setup)
        return zygote

    def _setup(self) -> wire.Setup:
        try:
            cwd = self._cwd or os.getcwd()  # noqa: PTH109 - sent as text
        except OSError as error:
            raise TargetError(f"cannot start workers: the working folder is gone ({error.strerror})") from error
        return wire.Setup(
            sys_path=[*self._path, *map(os.path.abspath, sys.path)],
            cwd=cwd,
            datastore=self._pickled_datastore,
            checkout=str(self._checkout),
            scratch=str(self._scratch),
            workspace=self._workspace,
            preload=self._preload,
        )

    def _end_zygote(self, zygote: ZygoteLink) -> None:
        if self._leaves_zygotes_clean() and zygote.is_alive():
            spare_zygote.keep(zygote, self._inherited)
        else:
            zygote.end()

    def _leaves_zygotes_clean(self) -> bool:
        """Tell whether its zygotes hold nothing but our own code: other code may have changed by the next run."""
        return not self._preload and type(self._datastore).__module__.partition(".")[0] == _US

    @staticmethod
    def _most_start_failures(environment: Key) -> int:
        return _MOST_START_FAILURES if environment is None else 1  # what cannot be built once cannot be built again

    def _in_words(self, key: Key) -> str:
        """Return how an error names an environment; empty for this process's own interpreter."""
        environments = (one.environment for one in self._waiting if one.environment is not None)
        name = next((one.name for one in environments if key_of(one) == key), "")
        return f" in environment {name!r}" if name else ""

    def _break(self, environment: Key, message: str) -> None:
        self._broken[environment] = message
        waiting, self._waiting = self._waiting, deque()
        for assignment in waiting:
            if key_of(assignment.environment) == environment:
                self._reporter.failed(assignment, Failure(FailureKind.WORLD, message))
            else:
                self._waiting.append(assignment)

    def _sweep(self, assignment: Assignment) -> None:
        """Remove what a killed attempt left in the scratch folder."""
        folder = scratch_folder(assignment, self._scratch)
        if not folder.exists():
            return
        if self._crews.own.zygote is not None:
            self._crews.own.zygote.remove(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
