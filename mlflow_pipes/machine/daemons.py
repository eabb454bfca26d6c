"""Processes that outlive the one that starts them, told apart from later ones with the same pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from mlflow_pipes.errors import WorldError
from mlflow_pipes.machine.processes import identity
from mlflow_pipes.machine.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_POLL_S = 0.02


def alive(pid: int, process: str) -> bool:
    """Tell whether the process that had this pid and identity still lives; one of unknown identity does not."""
    return pid > 0 and identity(pid) == process


def spawn(module: str, arguments: Sequence[str], *, log: Path, environ: Mapping[str, str], folder: Path) -> int:
    """Start ``python -m module`` as a daemon in a session of its own and return its pid.

    The module must call :func:`detach` first. Its output is appended to *log*.

    Raises:
        WorldError: it could not even start.
    """
    with log.open("ab") as output:
        # -P: what lies in the folder must not be importable (a model's folder could shadow a module).
        started = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, env=environ, cwd=folder,
        )  # fmt: skip
    if started.returncode != 0 or not started.stdout.strip().isdigit():
        raise WorldError(f"python -m {module} did not start (exit code {started.returncode}): {_end_of(log)}")
    return int(started.stdout)


def detach(record: Path) -> None:
    """Go on as a daemon: a child of init, in a session of its own.

    Its pid and identity are written to *record* before the process that called :func:`spawn` learns the pid, so that
    a daemon whose parent is killed can be found. Call before anything is imported or started that has threads: they
    do not survive a fork.
    """
    child = os.fork()
    if child:
        write_whole(record, json.dumps({"pid": child, "process": identity(child)}))
        os.write(1, b"%d\n" % child)
        os._exit(0)
    os.setsid()
    os.dup2(2, 1)


def terminate(pid: int, process: str, *, timeout_s: float) -> None:
    """End the process and wait until it is gone: SIGTERM, after *timeout_s* seconds SIGKILL to its session.

    Does nothing when it is gone already. Never signals another process that has got its pid.

    Raises:
        WorldError: it is still there 5 s after SIGKILL.
    """
    if not _signal(pid, process, signal.SIGTERM):
        return
    if _gone_within(pid, process, timeout_s):
        return
    _signal(pid, process, signal.SIGKILL, group=True)
    if not _gone_within(pid, process, 5.0):
        raise WorldError(f"process {pid} does not end, not even on SIGKILL: it hangs in the kernel")


def _signal(pid: int, process: str, number: signal.Signals, *, group: bool = False) -> bool:
    """Send a signal; False when the process is gone."""
    if not alive(pid, process):
        return False
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, number)
            return True
        descriptor = os.pidfd_open(pid)
        try:
            # The descriptor holds on to one process: if that is ours now, it is ours when the signal arrives.
            if not alive(pid, process):
                return False
            if group and os.getpgid(pid) == pid:
                os.killpg(pid, number)
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
    except ProcessLookupError:
        return False
    return True


def _gone_within(pid: int, process: str, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while alive(pid, process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip() or "no output"
