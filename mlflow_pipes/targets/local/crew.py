"""The worker processes of a local target: started, listened to, killed, cleaned up after.

What they work on is not decided here.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from mlflow_pipes.machine.processes import identity
from mlflow_pipes.model.attempt import FailureKind
from mlflow_pipes.targets.local import wire
from mlflow_pipes.targets.local.process_trees import kill_survivors, kill_tree
from mlflow_pipes.targets.local.worker_link import Output, State, WorkerLink
from mlflow_pipes.targets.local.zygote_link import ZygoteLink, ended_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_pipes.targets.local.crews import Key

_LOOK_AGAIN_S = 0.005  # after killing what an ended worker left
_MOURNING_S = 2.0  # what cannot be killed (a process in uninterruptible sleep) is not waited for longer
_HANG_UP_S = 0.5  # a worker that ended its connection has this long to end itself
_LEAVE_S = 1.0  # a worker that was told to exit has this long to run its exit functions
_slots = itertools.count(1)  # of all crews of this process: a zygote may serve several
_READS_PER_POLL = 4  # of 64 KiB: a flood of output must not stall the loop


class Listener(Protocol):
    """Who is told what happens to workers."""

    def heard(self, link: WorkerLink, message: Any) -> None:
        """A worker said something; what it wrote before was told before."""
        ...

    def wrote(self, link: WorkerLink, output: Output, lines: list[str]) -> None:
        """A worker wrote lines."""
        ...

    def measured(self, link: WorkerLink, measured: wire.Measured) -> None:
        """A busy worker was looked at."""
        ...

    def gone(self, link: WorkerLink) -> None:
        """A worker is dead, and so is all that it started. All it said and wrote was told."""
        ...


class Crew:
    """Workers and the zygote that they are forked from.

    Args:
        start_zygote: starts one.
        end_zygote: ends, or keeps for the next crew, one that lives and has no workers.
        listener: is told what happens.
        environment: what tells its workers from those of other crews.

    Attributes:
        links: the workers, by a number that this process never uses twice.
        start_failures: how many workers (or zygotes) in a row ended before a worker was ready.
    """

    def __init__(
        self,
        start_zygote: Callable[[], ZygoteLink],
        end_zygote: Callable[[ZygoteLink], None],
        listener: Listener,
        environment: Key = None,
    ) -> None:
        self.environment = environment
        self.links: dict[int, WorkerLink] = {}
        self.start_failures = 0
        self._start_zygote = start_zygote
        self._end_zygote = end_zygote
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._zygote: ZygoteLink | None = None

    @property
    def zygote(self) -> ZygoteLink | None:
        """The zygote, while there is one."""
        return self._zygote

    def fileno(self) -> int:
        """Return the one descriptor that is readable when anything happened."""
        return self._selector.fileno()

    def spawn(self) -> WorkerLink:
        """Start a worker; it tells when it is ready. What it writes is not read before :meth:`hear`.

        Raises:
            TargetError: no process can be started.
        """
        if self._zygote is None:
            self._zygote = self._start_zygote()
            self._selector.register(self._zygote.connection, selectors.EVENT_READ, self._on_zygote)
            self._selector.register(self._zygote.stderr_fd, selectors.EVENT_READ, self._on_zygote_stderr)
        link = WorkerLink(next(_slots), self.environment)
        self.links[link.slot] = link
        self._selector.register(link.connection, selectors.EVENT_READ, partial(self._on_connection, link))
        self._zygote.fork(link.slot, link.descriptors)
        link.close_theirs()
        return link

    def hear(self, link: WorkerLink) -> None:
        """Read what a worker writes from now on."""
        if link.is_heard:
            return
        link.is_heard = True
        for output in link.outputs:
            self._selector.register(output.fileno, selectors.EVENT_READ, partial(self._on_output, link, output))

    def flush(self, link: WorkerLink) -> None:
        """See to it that what the socket did not take at once is sent."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.outgoing else 0)
        self._selector.modify(link.connection, events, partial(self._on_connection, link))

    def kill(self, link: WorkerLink, kind: FailureKind, message: str) -> None:
        """Kill a worker and all that it started; its end is told later."""
        if link.state in {State.DYING, State.DEAD, State.GONE}:
            return
        link.state = State.DYING
        link.deadline = link.overdue = link.looks = None
        link.verdict = (kind, message)
        if link.pid is not None:
            kill_tree(link.pid)

    def let_go(self, link: WorkerLink) -> None:
        """Have an idle or starting worker exit."""
        link.state = State.LEAVING
        link.leave()
        link.expect(_LEAVE_S, (FailureKind.CANCELLED, "its worker was to exit"))

    def poll(self) -> None:
        """Tell what has happened, without waiting; kill what is past its time."""
        for key, events in self._selector.select(0):
            key.data(events)
        now = time.monotonic()
        to_look_at = []
        for link in list(self.links.values()):
            if link.looks is not None and link.looks.due <= now:
                link.looks.looked(now)
                to_look_at.append(link)
            if link.deadline is None or link.deadline > now:
                continue
            if link.state is State.DEAD:
                self._bury(link)
            elif link.overdue is not None:
                self.kill(link, *link.overdue)
        if to_look_at:
            self._look_at(to_look_at)

    def next_deadline(self) -> float | None:
        """Return when ``poll`` is to be called at the latest."""
        times = [link.deadline for link in self.links.values() if link.deadline is not None]
        times += [link.looks.due for link in self.links.values() if link.looks is not None]
        return min(times, default=None)

    def _look_at(self, links: Iterable[WorkerLink]) -> None:
        """Ask what busy workers use."""
        workers = {}
        for link in links:
            assignment = link.assignment
            if link.pid is not None and assignment is not None:
                workers[link.pid] = assignment.environ.get("CUDA_VISIBLE_DEVICES", "") if assignment.gpus else ""
        if workers and self._zygote is not None:
            self._zygote.measure(workers)

    def close(self) -> None:
        """Wait until all workers, which were killed or told to exit, are gone; then end the zygote."""
        starting = all(link.pid is None for link in self.links.values())
        if self._zygote is not None and starting and not self._zygote.has_spoken:
            self._zygote.kill()  # nobody waits until it has imported what workers need
        patience = time.monotonic() + _LEAVE_S + _MOURNING_S
        for link in self.links.values():
            if link.state is State.DYING and link.pid is not None:
                kill_tree(link.pid)  # again: Ctrl-C may have come between the decision and the deed
        while self.links and time.monotonic() < patience:
            self._selector.select(0.01)
            self.poll()
            self._make_up_for_interrupts()
        if self._zygote is not None:
            self._drop_zygote(ZygoteLink.close if self.links else self._end_zygote)  # ``close`` kills what is left
        for link in list(self.links.values()):
            self._finish(link)
        self._selector.close()

    def _make_up_for_interrupts(self) -> None:
        """See the ends of workers whose notice was read, but not acted upon because Ctrl-C came in between."""
        for link in list(self.links.values()):
            if link.state is State.GONE:
                del self.links[link.slot]
            elif link.state is State.DEAD and link.deadline is None:
                self._bury(link)
            elif link.state is State.DYING and link.pid is not None and identity(link.pid) is None:
                self._on_exited(link, "its worker process was killed")

    # --- what workers say ----------------------------------------------------------------------------------------

    def _on_connection(self, link: WorkerLink, events: int) -> None:
        if link.state is State.GONE:  # by an earlier event of the same poll
            return
        if events & selectors.EVENT_WRITE:
            link.flush()
            if not link.outgoing:
                self.flush(link)
        if events & selectors.EVENT_READ and not self._hear(link):
            self._selector.unregister(link.connection)
            if link.state in {State.BUSY, State.IDLE, State.STARTING}:
                link.expect(_HANG_UP_S, (FailureKind.LOST, "its worker closed the connection; the process was killed"))

    def _hear(self, link: WorkerLink) -> bool:
        """Take what a worker said; return False when it will say nothing more."""
        try:
            messages = link.receive()
        except Exception as error:  # noqa: BLE001 - unpickling raises anything, such as after an upgrade under our feet
            self.kill(link, FailureKind.WORLD, f"its worker's answer cannot be read: {error}")
            return False
        if messages is None:
            return False
        if messages and link.assignment is not None:
            self._drain(link)
        for message in messages:
            if isinstance(message, wire.Ready):
                link.pid = message.pid  # the zygote says it, too, perhaps later
                self.start_failures = 0
            if isinstance(message, wire.Ended):
                self._tell_rest(link)
            self._listener.heard(link, message)
        return True

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
            self._listener.wrote(link, output, lines)

    def _drain(self, link: WorkerLink) -> None:
        """Tell what a worker has written until now."""
        for output in link.outputs:
            lines = link.read_all(output)
            if lines:
                self._listener.wrote(link, output, lines)

    def _tell_rest(self, link: WorkerLink) -> None:
        """Tell lines that were begun and will not be ended."""
        for output in link.outputs:
            lines = output.lines.rest()
            if lines:
                self._listener.wrote(link, output, lines)

    # --- what the zygote says ------------------------------------------------------------------------------------

    def _on_zygote(self, _events: int) -> None:
        if self._zygote is None:
            return
        notices = self._zygote.notices()
        if notices is None:
            self._on_zygote_dead()
            return
        for notice in notices:
            for link in list(self.links.values()):
                if isinstance(notice, wire.Forked) and link.slot == notice.slot:
                    link.pid = notice.pid
                    if link.state is State.DYING:
                        kill_tree(link.pid)
                elif isinstance(notice, wire.Exited) and link.pid == notice.pid:
                    self._on_exited(link, f"its worker process {ended_by(notice.code, notice.signal)}")
                elif isinstance(notice, wire.Measured) and link.pid == notice.pid and link.state is State.BUSY:
                    self._listener.measured(link, notice)

    def _on_zygote_stderr(self, _events: int) -> None:
        if self._zygote is not None and not self._zygote.read_stderr():
            self._selector.unregister(self._zygote.stderr_fd)

    def _on_zygote_dead(self) -> None:
        assert self._zygote is not None
        obituary = self._zygote.obituary()
        self._drop_zygote(ZygoteLink.close)
        self.start_failures += all(link.state is State.STARTING for link in self.links.values())
        for link in list(self.links.values()):
            if link.pid is not None:
                kill_tree(link.pid)
            self._on_exited(link, f"its worker was lost with the process that it was forked from, which {obituary}")

    def _drop_zygote(self, end: Callable[[ZygoteLink], None]) -> None:
        zygote, self._zygote = self._zygote, None
        assert zygote is not None
        self._unwatch(zygote.connection, zygote.stderr_fd)
        end(zygote)

    # --- ends ----------------------------------------------------------------------------------------------------

    def _on_exited(self, link: WorkerLink, how: str) -> None:
        self._hear(link)  # it may have answered before it ended
        if link.state is State.STARTING and self._zygote is not None:
            self.start_failures += 1
        link.state = State.DEAD
        link.how_ended = how
        link.dead_since = time.monotonic()
        self._bury(link)

    def _bury(self, link: WorkerLink) -> None:
        """End with a dead worker as soon as nothing that it started is alive."""
        if link.pid is not None:
            left = (identity(link.pid) is not None) | kill_survivors(link.pid)
            if left and time.monotonic() - link.dead_since < _MOURNING_S:
                link.deadline = time.monotonic() + _LOOK_AGAIN_S
                return
        self._finish(link)

    def _finish(self, link: WorkerLink) -> None:
        self._drain(link)
        self._tell_rest(link)
        link.state = State.GONE
        del self.links[link.slot]
        self._unwatch(link.connection, *(output.fileno for output in link.outputs))
        link.close()
        if link.pid is not None and self._zygote is not None:
            self._zygote.release(link.pid)
        self._listener.gone(link)

    def _unwatch(self, *watched: socket.socket | int) -> None:
        for one in watched:
            if one in self._selector.get_map():
                self._selector.unregister(one)
