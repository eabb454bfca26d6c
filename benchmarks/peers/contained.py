"""Programs of others, run so that nothing of them is left: a folder of their own, a time limit, no strays."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from benchmarks.peers.catalogue import ENVIRON

_MARK = "PEERS_PROCESS_MARK"
_LOOK_EVERY_S = 0.2
_TIME_TO_END_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        stdout, stderr: all that it printed, also when it was ended. exit_code: None when it was ended at the limit.
    """

    stdout: str
    stderr: str
    exit_code: int | None

    @property
    def reason(self) -> str:
        """Why it failed: it took too long, or the last line that it said."""
        if self.exit_code is None:
            return "took longer than the limit"
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return f"exit code {self.exit_code}: {lines[-1] if lines else 'it said nothing'}"


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Give a new folder, removed at the end, whatever still writes into it."""
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_contained(
    arguments: Sequence[str | Path],
    folder: Path,
    *,
    cwd: Path,
    quiet_s: float,
    environ: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program until it ends, or prints nothing more for *quiet_s* seconds and is ended.

    All processes that it left behind, in whatever session they are, are ended too: none is at work when the next
    program is measured.
    """
    mark = uuid4().hex
    out, err = folder / "stdout", folder / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = subprocess.Popen(
            [str(one) for one in arguments],
            cwd=cwd,
            env={**_environ(folder), **(environ or {}), _MARK: mark, "PEERS_STARTED_AT": str(time.time())},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        exit_code = _wait(child, out, quiet_s)
    finally:
        _end_all(mark)
        child.wait()
    return Outcome(out.read_text(errors="replace"), err.read_text(errors="replace"), exit_code)


def _environ(folder: Path) -> Mapping[str, str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {
        **ENVIRON,
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "DAGSTER_HOME": str(home),
        "METAFLOW_HOME": str(home / "metaflow"),
    }


def _wait(child: subprocess.Popen[bytes], out: Path, quiet_s: float) -> int | None:
    """Return the exit code, or None when nothing was printed for too long."""
    seen, since = 0, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_LOOK_EVERY_S)
        size = out.stat().st_size
        if size != seen:
            seen, since = size, time.monotonic()
        elif time.monotonic() - since > quiet_s:
            return None


def _end_all(mark: str) -> None:
    """End every process that has the mark in its environment; first kindly, then not."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        marked = _marked(mark)
        for process in marked:
            with contextlib.suppress(psutil.Error):
                end(process)
        psutil.wait_procs(marked, timeout=_TIME_TO_END_S)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
