"""``LocalTarget``: attempts in worker processes of this machine that can be killed and replaced."""

from __future__ import annotations

import os
import pickle
import selectors
import shutil
import socket
import sys
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from mlflow_pipes.errors import TargetError
from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.targets.local import machine, wire
from mlflow_pipes.targets.local.processes import is_alive, kill_survivors, kill_tree
from mlflow_pipes.targets.local.reporter import Reporter
from mlflow_pipes.targets.local.worker_link import Output, State, WorkerLink
from mlflow_pipes.targets.local.zygote_link import ZygoteLink, ended_by
from mlflow_pipes.worker.execute import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow_pipes.model.attempt import Assignment, AttemptId, TargetEvent
    from mlflow_pipes.ports import Datastore

_MOST_START_FAILURES = 3
_LOOK_AGAIN_S = 0.005  # after killing what an ended worker left
_MOURNING_S = 2.0  # what cannot be killed (a process in uninterruptible sleep) is not waited for longer
_HANG_UP_S = 0.5  # a worker that ended its connection has this long to end itself
_CLOSE_S = 1.0  # idle workers have this long to run their exit functions
_READS_PER_POLL = 4  # of 64 KiB: a flood of output must not stall the loop


class LocalTarget:
    """A pool of worker processes, polled by the engine's loop; it has no thread of its own.

    Workers are started when there is work for them and kept. An attempt that takes too long or is cancelled is killed
    with SIGKILL, with all processes that it started (but those that left its session and whose parent has ended), and
    its worker is replaced. A worker that dies fails its attempt as ``LOST`` and nothing else. When this process dies,
    however it dies, all workers and what they started die, too.

    Args:
        name: the target's name.
        datastore: where inputs and outputs are; sent to the workers by pickle.
        workers: how many attempts run at once; by default as many as there are processors for this process.
        cpus: sum of the ``cpus`` of attempts that run at once; by default as many as workers.
        memory_bytes: sum of the ``memory_bytes`` of attempts that run at once; by default the machine's.
        checkout: folder where input files are laid out for reading.
        scratch: folder in which attempts have their temporary folders.
        workspace: the workspace's folder, for ``current_run()``.
        environ: environment variables of the workers, over this process's own.
        preload: modules to import once, before workers are forked; not the user's own, and none that starts threads.
    """

    def __init__(
        self,
        name: str,
        datastore: Datastore,
        *,
        workers: int | None = None,
        cpus: float | None = None,
        memory_bytes: int = 0,
        checkout: Path,
        scratch: Path,
        workspace: str = "",
        environ: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.workers = workers or machine.processors()
        self._cpus = float(cpus or self.workers)
        self._memory_bytes = memory_bytes or machine.memory_bytes()
        self._datastore = datastore
        self._checkout = checkout
        self._scratch = scratch
        self._workspace = workspace
        self._environ = dict(environ or {})
        self._preload = tuple(preload)
        self._reporter = Reporter(name, {}, lambda _: None)
        self._pickled_datastore = b""
        self._open = False
        self._broken = ""
        self._start_failures = 0
        self._selector = selectors.DefaultSelector()
        self._zygote: ZygoteLink | None = None
        self._links: dict[int, WorkerLink] = {}  # by slot number, which is never used twice
        self._idle: list[WorkerLink] = []
        self._waiting: deque[Assignment] = deque()
        self._restarted: set[AttemptId] = set()
        self._last_slot = 0

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
        return Capacity(cpus=self._cpus, memory_bytes=self._memory_bytes, slots=self.workers)

    def submit(self, assignment: Assignment) -> None:
        """Take an attempt; more than there are workers wait."""
        if not self._open:
            raise TargetError(f"target {self.name!r} is not started, or closed")
        if self._broken:
            raise TargetError(self._broken)
        self._waiting.append(assignment)
        self._dispatch()

    def cancel(self, attempt: AttemptId) -> None:
        """Kill the worker that does an attempt, or drop one that waits."""
        for assignment in self._waiting:
            if assignment.attempt == attempt:
                self._waiting.remove(assignment)
                self._reporter.failed(assignment, Failure(FailureKind.CANCELLED, "cancelled before it began"))
                return
        for link in self._links.values():
            if link.state is State.BUSY and link.assignment is not None and link.assignment.attempt == attempt:
                self._kill(link, FailureKind.CANCELLED, "cancelled; its process was killed")
                return

    def filenos(self) -> Iterable[int]:
        """Return the one descriptor that is readable when anything happened."""
        return (self._selector.fileno(),)

    def poll(self) -> None:
        """Report what has happened, kill what is past its time, give work to idle workers."""
        for key, events in self._selector.select(0):
            key.data(events)
        self._enforce_deadlines()
        self._dispatch()

    def next_deadline(self) -> float | None:
        """Return when a worker is to be looked after."""
        return min((link.deadline for link in self._links.values() if link.deadline is not None), default=None)

    def close(self) -> None:
        """Kill what runs, let idle workers exit, and wait until nothing is left."""
        if not self._open:
            self._selector.close()
            return
        self._open = False
        while self._waiting:
            failure = Failure(FailureKind.CANCELLED, "the target was closed before it began")
            self._reporter.failed(self._waiting.popleft(), failure)
        for link in list(self._links.values()):
            if link.state is State.BUSY:
                self._kill(link, FailureKind.CANCELLED, "the target was closed; its process was killed")
            elif link.state in {State.IDLE, State.STARTING}:
                self._let_go(link)
        patience = time.monotonic() + _CLOSE_S + _MOURNING_S
        while self._links and time.monotonic() < patience:
            self._selector.select(0.01)
            self.poll()
        if self._zygote is not None:
            self._drop_zygote()  # it kills what is left
        for link in list(self._links.values()):
            self._finish(link)
        self._selector.close()

    # --- giving work ---------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            self._begin(self._idle.pop(), self._waiting.popleft())  # the one that worked last: its caches are warm
        if not self._waiting or not self._open:
            return
        starting = sum(link.state is State.STARTING for link in self._links.values())
        try:
            for _ in range(min(len(self._waiting) - starting, self.workers - len(self._links))):
                self._spawn()
        except TargetError as error:
            self._break(str(error))

    def _begin(self, link: WorkerLink, assignment: Assignment) -> None:
        link.state = State.BUSY
        link.assignment = assignment
        link.started_at = time.time()
        link.last_errors.clear()
        if assignment.timeout_s is not None:
            message = f"took longer than timeout_s={assignment.timeout_s:g}; its process was killed"
            link.expect(assignment.timeout_s, (FailureKind.TIMEOUT, message))
        link.send(assignment)
        if link.outgoing:
            self._watch(link, selectors.EVENT_READ | selectors.EVENT_WRITE)
        if assignment.attempt in self._restarted:
            self._restarted.discard(assignment.attempt)
        else:
            self._reporter.started(link, assignment)

    def _spawn(self) -> None:
        if self._zygote is None:
            self._start_zygote()
        assert self._zygote is not None
        self._last_slot += 1
        link = self._links[self._last_slot] = WorkerLink(self._last_slot)
        self._selector.register(link.connection, selectors.EVENT_READ, partial(self._on_connection, link))
        for output in link.outputs:
            self._selector.register(output.fileno, selectors.EVENT_READ, partial(self._on_output, link, output))
        self._zygote.fork(link.slot, link.descriptors)
        link.close_theirs()

    def _start_zygote(self) -> None:
        cwd = os.getcwd()  # noqa: PTH109 - sent as text
        setup = wire.Setup(
            sys_path=[os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 - entries may be archives
            cwd=cwd,
            datastore=self._pickled_datastore,
            checkout=str(self._checkout),
            scratch=str(self._scratch),
            workspace=self._workspace,
            preload=self._preload,
        )
        self._zygote = ZygoteLink(setup, self._environ)
        self._selector.register(self._zygote.connection, selectors.EVENT_READ, self._on_zygote)
        self._selector.register(self._zygote.stderr_fd, selectors.EVENT_READ, self._on_zygote_stderr)

    def _let_go(self, link: WorkerLink) -> None:
        """Have an idle worker exit."""
        if link in self._idle:
            self._idle.remove(link)
        link.state = State.LEAVING
        link.leave()
        link.expect(_CLOSE_S, (FailureKind.CANCELLED, "its worker was to exit"))

    # --- what workers say ----------------------------------------------------------------------------------------

    def _on_connection(self, link: WorkerLink, events: int) -> None:
        if link.state is State.GONE:  # by an earlier event of the same poll
            return
        if events & selectors.EVENT_WRITE:
            link.flush()
            if not link.outgoing:
                self._watch(link, selectors.EVENT_READ)
        if events & selectors.EVENT_READ and not self._hear(link):
            self._selector.unregister(link.connection)
            if link.state in {State.BUSY, State.IDLE, State.STARTING}:
                overdue = (FailureKind.LOST, "its worker closed the connection; the process was killed")
                link.expect(_HANG_UP_S, overdue)

    def _hear(self, link: WorkerLink) -> bool:
        """Take what a worker said; return False when it will say nothing more."""
        try:
            messages = link.receive()
        except Exception as error:  # noqa: BLE001 - unpickling raises anything, such as after an upgrade under our feet
            self._kill(link, FailureKind.WORLD, f"its worker's answer cannot be read: {error}")
            return False
        if messages is None:
            return False
        if messages and link.assignment is not None:
            self._drain(link)  # what was printed before is told before
        for message in messages:
            assignment = link.assignment
            if isinstance(message, wire.Ended):
                self._on_ended(link, message)
            elif isinstance(message, wire.Ready):
                link.state = State.IDLE if link.state is State.STARTING else link.state
                self._start_failures = 0
                if link.state is State.IDLE:
                    self._idle.append(link)
            elif assignment is not None:
                self._reporter.said(assignment, message)
        return True

    def _on_ended(self, link: WorkerLink, ended: wire.Ended) -> None:
        assignment = link.assignment
        if assignment is None:
            return
        self._tell_rest(link)
        link.assignment = link.deadline = link.overdue = None
        if ended.stale and link.state is State.BUSY:
            self._let_go(link)
            self._restarted.add(assignment.attempt)
            self._waiting.appendleft(assignment)
            return
        if link.state is State.BUSY:
            link.state = State.IDLE
            self._idle.append(link)
        self._reporter.ended(link, assignment, ended)

    def _on_output(self, link: WorkerLink, output: Output, _events: int) -> None:
        if link.state is State.GONE:
            return
        for _ in range(_READS_PER_POLL):
            lines = link.read(output)
            if lines is None:
                self._selector.unregister(output.fileno)
                return
            if not lines:
                return
            self._reporter.lines(link, output, lines)

    def _drain(self, link: WorkerLink) -> None:
        for output in link.outputs:
            lines = link.read_all(output)
            if lines:
                self._reporter.lines(link, output, lines)

    def _tell_rest(self, link: WorkerLink) -> None:
        """Tell lines that were begun and will not be ended."""
        for output in link.outputs:
            lines = output.lines.rest()
            if lines:
                self._reporter.lines(link, output, lines)

    # --- ends ----------------------------------------------------------------------------------------------------

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for link in list(self._links.values()):
            if link.deadline is None or link.deadline > now:
                continue
            if link.state is State.DEAD:
                self._bury(link)
            elif link.overdue is not None:
                self._kill(link, *link.overdue)

    def _kill(self, link: WorkerLink, kind: FailureKind, message: str) -> None:
        if link.state in {State.DYING, State.DEAD, State.GONE}:
            return
        if link in self._idle:
            self._idle.remove(link)
        link.state = State.DYING
        link.deadline = link.overdue = None
        link.verdict = (kind, message)
        if link.pid is not None:
            kill_tree(link.pid)

    def _on_zygote(self, _events: int) -> None:
        if self._zygote is None:
            return
        notices = self._zygote.notices()
        if notices is None:
            self._on_zygote_dead()
            return
        for notice in notices:
            if isinstance(notice, wire.Forked):
                link = self._links.get(notice.slot)
                if link is not None:
                    link.pid = notice.pid
            elif isinstance(notice, wire.Exited):
                for link in list(self._links.values()):
                    if link.pid == notice.pid:
                        self._on_exited(link, f"its worker process {ended_by(notice.code, notice.signal)}")

    def _on_zygote_stderr(self, _events: int) -> None:
        if self._zygote is not None and not self._zygote.read_stderr():
            self._selector.unregister(self._zygote.stderr_fd)

    def _on_zygote_dead(self) -> None:
        assert self._zygote is not None
        obituary = self._zygote.obituary()
        self._drop_zygote()
        started = any(link.state is not State.STARTING for link in self._links.values())
        self._start_failures += not started
        for link in list(self._links.values()):
            if link.pid is not None:
                kill_tree(link.pid)
            self._on_exited(
                link, f"its worker was lost with the process that workers are forked from, which {obituary}"
            )

    def _drop_zygote(self) -> None:
        zygote, self._zygote = self._zygote, None
        assert zygote is not None
        for watched in (zygote.connection, zygote.stderr_fd):
            if watched in self._selector.get_map():
                self._selector.unregister(watched)
        zygote.close()

    def _on_exited(self, link: WorkerLink, how: str) -> None:
        self._hear(link)  # it may have answered before it ended
        if link in self._idle:
            self._idle.remove(link)
        if link.state is State.STARTING:
            self._start_failures += self._zygote is not None
        link.state, was = State.DEAD, link.state
        link.how_ended = how
        link.dead_since = time.monotonic()
        self._bury(link, failed_to_start=was is State.STARTING)

    def _bury(self, link: WorkerLink, *, failed_to_start: bool = False) -> None:
        """Answer for a dead worker as soon as nothing that it started is alive."""
        if link.pid is not None:
            left = is_alive(link.pid) | kill_survivors(link.pid)
            if left and time.monotonic() - link.dead_since < _MOURNING_S:
                link.deadline = time.monotonic() + _LOOK_AGAIN_S
                return
        if failed_to_start and self._start_failures >= _MOST_START_FAILURES:
            self._drain(link)
            words = "\n".join(link.last_errors)
            self._break(f"workers of target {self.name!r} end before they are ready: {link.how_ended}\n{words}".strip())
        self._finish(link)

    def _finish(self, link: WorkerLink) -> None:
        assignment = link.assignment
        if assignment is not None:
            self._drain(link)
            self._tell_rest(link)
        link.state = State.GONE
        del self._links[link.slot]
        watching: list[socket.socket | int] = [link.connection, *(output.fileno for output in link.outputs)]
        for watched in watching:
            if watched in self._selector.get_map():
                self._selector.unregister(watched)
        link.close()
        if link.pid is not None and self._zygote is not None:
            self._zygote.release(link.pid)
        if assignment is not None:
            self._sweep(assignment)
            self._reporter.died(link, assignment)

    def _break(self, message: str) -> None:
        self._broken = message
        while self._waiting:
            self._reporter.failed(self._waiting.popleft(), Failure(FailureKind.WORLD, message))

    def _sweep(self, assignment: Assignment) -> None:
        folder = scratch_folder(assignment, self._scratch)
        if not folder.exists():
            return
        if self._zygote is not None:
            self._zygote.remove(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    # --- small things --------------------------------------------------------------------------------------------

    def _watch(self, link: WorkerLink, events: int) -> None:
        self._selector.modify(link.connection, events, partial(self._on_connection, link))
