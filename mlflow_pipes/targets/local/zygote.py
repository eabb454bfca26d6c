"""The process that workers are forked from: single-threaded, with our code imported and none of the user's.

It serves one run after the other: it forks on request, and reports which of its workers ended and how. It ends when its
orchestrator does, however that dies: the connection between them is then at its end, and the workers are killed.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from mlflow_pipes.targets.local import wire, worker_main
from mlflow_pipes.targets.local.process_trees import kill_tree, uses_of
from mlflow_pipes.worker.versions import differences

# What a user's module imports first anyway; from its own folder's point of view it is not loaded yet.
_OURS = ("mlflow_pipes", "mlflow_pipes.authoring", "cloudpickle", "mlflow_pipes.worker.capture")


def main(control_fd: int) -> None:
    """Serve the orchestrator at the other end of *control_fd* until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the orchestrator's to decide about
    control = socket.socket(fileno=control_fd)
    zygote = _Zygote(control)
    try:
        zygote.serve()
    finally:
        zygote.kill_all()


class _Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._frames = wire.Frames()
        self._descriptors: list[int] = []
        self._workers: set[int] = set()
        self._ended: set[int] = set()
        self._sweepers: set[int] = set()
        self._host: worker_main.Host | None = None
        self._rests_at_most_s: float | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def serve(self) -> None:
        while True:
            watched: list[Any] = [self._control, self._wake_read]
            readable, _, _ = select.select(watched, [], [], self._rests_at_most_s)
            if not readable:
                return
            if self._wake_read in readable:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._tell_ended()
            if self._control in readable:
                try:
                    piece, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 64)
                except ConnectionError:
                    return
                if not piece:
                    return
                self._descriptors += descriptors
                for message in self._frames.feed(piece):
                    self._obey(message)

    def kill_all(self) -> None:
        for pid in self._workers - self._ended:
            kill_tree(pid)

    def _obey(self, message: Any) -> None:
        match message:
            case wire.Setup():
                is_first = self._host is None
                self._rests_at_most_s = None
                self._host = _prepared(message)
                if is_first:
                    # Objects that live forever are kept out of collections: workers need not copy their pages.
                    gc.collect()
                    gc.freeze()
            case wire.Rest():
                self._rests_at_most_s = message.at_most_s
            case wire.Fork():
                descriptors, self._descriptors = self._descriptors[:3], self._descriptors[3:]
                self._fork(message.slot, descriptors)
            case wire.Release():
                self._workers.discard(message.pid)
                self._ended.discard(message.pid)
                with suppress(ChildProcessError):
                    os.waitpid(message.pid, os.WNOHANG)
            case wire.Remove():
                self._remove(message.folder)
            case wire.Measure():
                self._measure(message)

    def _fork(self, slot: int, descriptors: list[int]) -> None:
        assert self._host is not None, "set up before the first fork"
        zygote_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_child()
                worker_main.main(self._host, zygote_pid, *descriptors)
            finally:
                os._exit(70)
        for descriptor in descriptors:
            os.close(descriptor)
        self._workers.add(pid)
        self._say(wire.Forked(slot, pid))

    def _remove(self, folder: str) -> None:
        """Remove in a child: a folder may hold millions of files, and forks must not wait for it."""
        pid = os.fork()
        if pid == 0:
            try:
                self._become_child()
                os.setsid()
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os._exit(0)
        self._sweepers.add(pid)

    def _measure(self, asked: wire.Measure) -> None:
        from mlflow_pipes.targets.local.gpu_use import gpu_use

        uses = uses_of(asked.workers.keys() & (self._workers - self._ended))
        now = time.time()
        for pid, use in uses.items():
            self._say(wire.Measured(pid, now, use.cpu_s, use.memory_bytes, gpu_use(asked.workers[pid])))

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for descriptor in self._descriptors[3:]:
            os.close(descriptor)

    def _tell_ended(self) -> None:
        for pid in self._workers - self._ended:
            # WNOWAIT leaves a zombie, so that the id names no other process until the orchestrator has cleaned up.
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if result is not None:
                self._ended.add(pid)
                exited = result.si_code == os.CLD_EXITED
                self._say(wire.Exited(pid, result.si_status if exited else 0, 0 if exited else result.si_status))
        for pid in list(self._sweepers):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._sweepers.discard(pid)

    def _say(self, message: Any) -> None:
        with suppress(BrokenPipeError):
            self._control.sendall(wire.encode(message))


def _prepared(setup: wire.Setup) -> worker_main.Host:
    """Take over the orchestrator's view of the world, and import what every worker needs."""
    if setup.expected is None:
        sys.path[:] = setup.sys_path
    else:
        differing = differences(*setup.expected)
        if differing:
            sys.exit(f"it is not what was resolved: {differing}; build it anew, or plan again")
        sys.path[:] = [*setup.sys_path, *filter(None, sys.path)]
    os.chdir(setup.cwd)
    for module in _OURS:
        with suppress(ImportError):
            importlib.import_module(module)
    for module in setup.preload:
        importlib.import_module(module)
    return worker_main.Host(pickle.loads(setup.datastore), setup.checkout, setup.scratch, setup.workspace, setup.cwd)


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    """Let SIGCHLD interrupt; the wakeup descriptor tells."""
